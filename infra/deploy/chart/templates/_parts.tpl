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

{{/* The pod around one container: rights, place and time to end. */}}
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

{{- define "qianmo.redisEnvironment" -}}
{{- $values := .root.Values -}}
- name: QIANMO_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $values.redis.existingSecret }}
      key: {{ $values.redis.key }}
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

{{- define "qianmo.s3Environment" -}}
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
{{- end -}}

{{- define "qianmo.configDigest" -}}
{{- printf "%s%s" .Values.run.config .Values.run.existingConfigMap | sha256sum | trunc 8 -}}
{{- end -}}
