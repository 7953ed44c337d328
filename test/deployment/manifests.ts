/** The files of `infra/deploy` as tests and checks read them: documents, pods, and command lines of qianmo. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments, type ScalarTag } from 'yaml';
import { z } from 'zod';

export const DEPLOY = 'infra/deploy';
/** Manifests that Helm makes of the example values; `npm run check -- deployment` compares them with what Helm makes now. */
export const RENDERED = 'test/deployment/rendered';

/** The functions of CloudFormation stand for texts that are known when a stack is made. */
const cloudFormationTags: ScalarTag[] = ['!Ref', '!Sub', '!GetAtt'].map((tag) => ({
  tag,
  resolve: (text) => `${tag} ${text}`,
}));

/** @throws Error if a document is not one, or has an unknown tag. */
export function documentsIn(path: string): unknown[] {
  return parseAllDocuments(readFileSync(path, 'utf8'), {
    merge: true,
    customTags: cloudFormationTags,
  })
    .map((document) => {
      const [problem] = [...document.errors, ...document.warnings];
      if (problem !== undefined) throw new Error(`${path}: ${problem.message}`);
      return document.toJS() as unknown;
    })
    .filter((document) => document !== null);
}

export const renderedFiles = readdirSync(RENDERED).map((name) => join(RENDERED, name));
export const KUBERNETES_JOB = join(DEPLOY, 'kubernetes/run.yaml');
export const DASHBOARDS = readdirSync(join(DEPLOY, 'grafana')).map((name) =>
  join(DEPLOY, 'grafana', name),
);
export const COMPOSE = join(DEPLOY, 'compose/compose.yaml');
export const BATCH = join(DEPLOY, 'batch/job-definitions.yaml');
export const DOCKERFILE = join(DEPLOY, 'images/Dockerfile');
export const SLURM = ['workers.sbatch', 'coordinator.sbatch'].map((name) =>
  join(DEPLOY, 'slurm', name),
);

const words = z.array(z.string());
const Variable = z.looseObject({ name: z.string(), value: z.string().optional() });
const Mount = z.looseObject({ name: z.string(), mountPath: z.string() });
const Container = z.looseObject({
  name: z.string(),
  image: z.string(),
  args: words,
  env: z.array(Variable).default([]),
  volumeMounts: z.array(Mount),
  securityContext: z.unknown(),
  resources: z.looseObject({ requests: z.unknown(), limits: z.unknown() }),
});
const Pod = z.looseObject({
  terminationGracePeriodSeconds: z.number(),
  securityContext: z.looseObject({}),
  containers: z.array(Container).length(1),
});
const Workload = z.looseObject({
  kind: z.enum(['Job', 'Deployment']),
  metadata: z.looseObject({ name: z.string() }),
  spec: z.looseObject({ template: z.looseObject({ spec: Pod }) }),
});
const JobRules = z.looseObject({
  spec: z.looseObject({
    podFailurePolicy: z.looseObject({
      rules: z.array(
        z.looseObject({
          action: z.string(),
          onExitCodes: z
            .looseObject({ operator: z.string(), values: z.array(z.number()) })
            .optional(),
        }),
      ),
    }),
  }),
});

/** A pod of Kubernetes with its one container. */
export interface DeployedPod {
  readonly place: string;
  readonly kind: 'Job' | 'Deployment';
  readonly pod: z.infer<typeof Pod>;
  readonly container: z.infer<typeof Container>;
}

export function podsIn(path: string): DeployedPod[] {
  return documentsIn(path)
    .flatMap((document) => {
      const workload = Workload.safeParse(document);
      if (!workload.success) return isWorkload(document) ? [Workload.parse(document)] : [];
      return [workload.data];
    })
    .flatMap(({ kind, metadata, spec }) => {
      const pod = spec.template.spec;
      return pod.containers.map((container) => ({
        ...{ place: `${path} ${metadata.name}`, kind, pod, container },
      }));
    });
}

const Kind = z.looseObject({ kind: z.enum(['Job', 'Deployment']) });
const isWorkload = (document: unknown): boolean => Kind.safeParse(document).success;

/** The exit codes with which a Job fails at once. */
export function failingCodesOf(path: string): number[][] {
  return documentsIn(path)
    .map((document) => JobRules.safeParse(document))
    .flatMap(({ data }) => data?.spec.podFailurePolicy.rules ?? [])
    .flatMap(({ action, onExitCodes }) =>
      action === 'FailJob' && onExitCodes?.operator === 'In' ? [onExitCodes.values] : [],
    );
}

const BatchTemplate = z.looseObject({
  Resources: z.record(
    z.string(),
    z.looseObject({
      Properties: z.looseObject({
        Parameters: z.record(z.string(), z.string()).default({}),
        Timeout: z.strictObject({ AttemptDurationSeconds: z.number() }).optional(),
        RetryStrategy: z.strictObject({
          Attempts: z.number(),
          EvaluateOnExit: z.array(z.record(z.string(), z.string())),
        }),
        ContainerProperties: z.looseObject({
          Command: words,
          User: z.string(),
          ReadonlyRootFilesystem: z.boolean(),
        }),
      }),
    }),
  ),
});

export function batchDefinitions(): z.infer<typeof BatchTemplate>['Resources'] {
  return BatchTemplate.parse(documentsIn(BATCH)[0]).Resources;
}

const Compose = z.looseObject({
  services: z.record(
    z.string(),
    z.looseObject({
      image: z.string(),
      entrypoint: words.optional(),
      command: words.optional(),
      restart: z.string().optional(),
    }),
  ),
});

export function composeServices(): z.infer<typeof Compose>['services'] {
  return Compose.parse(documentsIn(COMPOSE)[0]).services;
}

/** A command line of qianmo in one of the files. */
export interface DeployedCommand {
  readonly place: string;
  readonly words: readonly string[];
}

/** Every command line, with texts in the place of what a cluster fills in. */
export function deployedCommands(): DeployedCommand[] {
  const ofPods = [KUBERNETES_JOB, ...renderedFiles]
    .flatMap(podsIn)
    .map(({ place, container }) => ({ place, words: container.args }));
  const ofBatch = Object.entries(batchDefinitions()).map(([name, { Properties }]) => ({
    place: `${BATCH} ${name}`,
    words: Properties.ContainerProperties.Command.map((word) => {
      const parameter = /^Ref::(\w+)$/.exec(word)?.[1];
      return parameter === undefined ? word : (Properties.Parameters[parameter] ?? word);
    }),
  }));
  const ofCompose = Object.entries(composeServices())
    .filter(([, { image }]) => image.startsWith('qianmo-'))
    .map(([name, { command = [] }]) => ({ place: `${COMPOSE} ${name}`, words: command }));
  return [...ofPods, ...ofBatch, ...ofCompose, ...imageCommands(), ...SLURM.map(slurmCommand)];
}

function imageCommands(): DeployedCommand[] {
  const text = readFileSync(DOCKERFILE, 'utf8');
  return [...text.matchAll(/^CMD (\[.*\])$/gm)].map(([, list = '']) => ({
    place: `${DOCKERFILE} CMD`,
    words: words.parse(JSON.parse(list)),
  }));
}

/** The call in a script, whose variables are replaced by their defaults or by a word. */
function slurmCommand(path: string): DeployedCommand {
  const text = readFileSync(path, 'utf8').replace(/\\\n\s*/g, '');
  const call = /"\$\{qianmo\[@\]\}" (.*?)( &)?$/m.exec(text)?.[1];
  if (call === undefined) throw new Error(`${path} calls no qianmo`);
  const plain = call
    .replace(/\$\{\w+:-([^}]*)\}/g, '$1')
    .replace(/\$\w+/g, 'word')
    .replace(/"/g, '');
  return { place: path, words: plain.trim().split(/\s+/) };
}
