{{/* The parts that several manifests share. */}}

{{- define "qianmo.name" -}}
{{- printf "%s-%s" .root.Release.Name .component | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "qianmo.selector" -}}
app.kubernetes.io/name: qianmo
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
qianmo/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "qianmo.labels" -}}
{{ include "qianmo.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "qianmo.image" -}}
{{- $images := .root.Values.images -}}
image: {{ printf "%sqianmo-%s:%s" $images.prefix .image ($images.tag | default .root.Chart.AppVersion) }}
imagePullPolicy: {{ $images.pullPolicy }}
{{- end -}}

{{/* Labels and annotations of a pod: its own, those of every pod, those of its component. */}}
{{- define "qianmo.podMetadata" -}}
labels:
  {{- include "qianmo.labels" . | nindent 2 }}
  {{- with merge (dict) (.settings.labels | default dict) .root.Values.pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.settings.annotations | default dict) .root.Values.pods.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What surrounds the containers of a pod: rights, place and time to end. */}}
{{- define "qianmo.pod" -}}
automountServiceAccountToken: false
{{- with .root.Values.serviceAccount.name }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
terminationGracePeriodSeconds: {{ .settings.gracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity | default .root.Values.pods.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "qianmo.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml .settings.resources | nindent 2 }}
{{- end -}}

{{/* Arguments and port of the metrics, which Prometheus and KEDA read. */}}
{{- define "qianmo.metricsArguments" -}}
--metrics-host, 0.0.0.0, --metrics-port, {{ .root.Values.metrics.port | quote }}
{{- end -}}

{{- define "qianmo.metricsPort" -}}
- name: metrics
  containerPort: {{ .root.Values.metrics.port }}
{{- end -}}

{{/* The variables of several texts. */}}
{{- define "qianmo.environment" -}}
{{- with join "\n" . | fromYamlArray -}}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "qianmo.redisEnvironment" -}}
{{- $values := .root.Values -}}
- name: QIANMO_REDIS_URL
  {{- if $values.redis.trial.enabled }}
  value: redis://{{ include "qianmo.name" (dict "root" .root "component" "redis") }}:6379
  {{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ $values.redis.existingSecret }}
      key: {{ $values.redis.key }}
  {{- end }}
{{- if $values.redis.tlsSecret }}
- name: QIANMO_REDIS_CA_FILE
  value: /secrets/redis/ca.crt
- name: QIANMO_REDIS_CERTIFICATE_FILE
  value: /secrets/redis/tls.crt
- name: QIANMO_REDIS_KEY_FILE
  value: /secrets/redis/tls.key
{{- end }}
{{- end -}}

{{- define "qianmo.signingEnvironment" -}}
{{- with .root.Values.signing.existingSecret }}
- name: QIANMO_SIGNING_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.root.Values.signing.key }}
{{- end }}
{{- end -}}

{{/* The object store, and variables that the values add. */}}
{{- define "qianmo.commonEnvironment" -}}
{{- with .root.Values.s3 }}
{{- if .existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: AWS_ACCESS_KEY_ID
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: AWS_SECRET_ACCESS_KEY
{{- end }}
{{- if .region }}
- name: AWS_REGION
  value: {{ .region }}
{{- end }}
{{- if .endpoint }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ .endpoint }}
{{- end }}
{{- end }}
{{- with concat .root.Values.pods.extraEnv (.settings.extraEnv | default list) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Mounts that every pod has. readOnly: of the data. */}}
{{- define "qianmo.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: data
  mountPath: /data
  {{- if .readOnly }}
  readOnly: true
  {{- end }}
{{- if .root.Values.redis.tlsSecret }}
- name: redis-tls
  mountPath: /secrets/redis
  readOnly: true
{{- end }}
{{- with concat .root.Values.pods.mounts (.settings.mounts | default list) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "qianmo.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .settings.tmpSize }}
- name: data
  {{- if .root.Values.data.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .root.Values.data.existingClaim }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- with .root.Values.redis.tlsSecret }}
- name: redis-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with concat .root.Values.pods.volumes (.settings.volumes | default list) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A Job does not change, so another config has another name. */}}
{{- define "qianmo.runName" -}}
{{- $digest := printf "%s%s%s" .Values.run.config .Values.run.existingConfigMap (toJson .Values.run.steps) | sha256sum | trunc 8 -}}
{{- printf "%s-%s" (include "qianmo.name" (dict "root" $ "component" "coordinator")) $digest -}}
{{- end -}}

{{/* A Job that runs the commands of a coordinator one after another: each before the last is an init container. */}}
{{- define "qianmo.jobOfSteps" -}}
{{- $of := . -}}
{{- $last := sub (len .steps) 1 | int -}}
backoffLimit: {{ .settings.backoffLimit }}
podFailurePolicy:
  rules:
    # A pod that had to leave its node counts as no failure.
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    # Failed, wrong usage, a bug: the same command would end the same way. 5: somebody cancelled the run.
    - action: FailJob
      onExitCodes:
        operator: In
        values: [1, 2, 5, 70]
template:
  metadata:
    {{- include "qianmo.podMetadata" . | nindent 4 }}
  spec:
    restartPolicy: Never
    {{- include "qianmo.pod" . | nindent 4 }}
    {{- if gt $last 0 }}
    initContainers:
      {{- range $index, $words := initial .steps }}
      {{- include "qianmo.step" (merge (dict "words" $words "index" $index) $of) | nindent 6 }}
      {{- end }}
    {{- end }}
    containers:
      {{- include "qianmo.step" (merge (dict "words" (last .steps) "index" $last) $of) | nindent 6 }}
    volumes:
      {{- include "qianmo.volumes" . | nindent 6 }}
      - name: config
        configMap:
          name: {{ .root.Values.run.existingConfigMap | default (include "qianmo.runName" .root) }}
{{- end -}}

{{- define "qianmo.step" -}}
{{- $hasMetrics := has (first .words) (list "train" "auto" "sweep" "evaluate" "export" "refresh") -}}
- name: {{ first .words }}-{{ add1 .index }}
  {{- include "qianmo.image" . | nindent 2 }}
  args: [{{ range $index, $word := .words }}{{ if $index }}, {{ end }}{{ $word | quote }}{{ end }}{{ if $hasMetrics }}, {{ include "qianmo.metricsArguments" . }}{{ end }}]
  {{- if $hasMetrics }}
  ports:
    {{- include "qianmo.metricsPort" . | nindent 4 }}
  {{- end }}
  {{- include "qianmo.environment" (list (include "qianmo.redisEnvironment" .) (include "qianmo.signingEnvironment" .) (include "qianmo.commonEnvironment" .)) | nindent 2 }}
  {{- include "qianmo.container" . | nindent 2 }}
  volumeMounts:
    {{- include "qianmo.mounts" . | nindent 4 }}
    - name: config
      mountPath: /config
      readOnly: true
{{- end -}}
