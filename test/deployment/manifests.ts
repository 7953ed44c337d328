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

/** The whole life of a model without Helm: a rendered file that people apply. */
export const KUBERNETES_LIFE = join(DEPLOY, 'kubernetes/life.yaml');
export const renderedFiles = [
  KUBERNETES_LIFE,
  ...readdirSync(RENDERED).map((name) => join(RENDERED, name)),
];
export const DASHBOARDS = readdirSync(join(DEPLOY, 'grafana')).map((name) =>
  join(DEPLOY, 'grafana', name),
);
export const COMPOSE = join(DEPLOY, 'compose/compose.yaml');
export const BATCH = join(DEPLOY, 'batch/job-definitions.yaml');
export const BATCH_REFRESH = join(DEPLOY, 'batch/refresh.yaml');
export const DOCKERFILE = join(DEPLOY, 'images/Dockerfile');
export const SLURM = ['workers.sbatch', 'coordinator.sbatch'].map((name) =>
  join(DEPLOY, 'slurm', name),
);
/** Scripts that submit the commands of a run. */
export const SUBMISSIONS = ['slurm/submit.sh', 'batch/submit.sh'].map((name) => join(DEPLOY, name));

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
  securityContext: z.looseObject({}),
  /** They run one after another, before the container. */
  initContainers: z.array(Container).default([]),
  containers: z.array(Container).length(1),
});
const Rule = z.looseObject({
  action: z.string(),
  onExitCodes: z.strictObject({ operator: z.string(), values: z.array(z.number()) }).optional(),
});
const PodOwner = z.looseObject({
  podFailurePolicy: z.looseObject({ rules: z.array(Rule) }).optional(),
  template: z.looseObject({ spec: Pod }),
});
const Named = z.looseObject({ name: z.string() });
const Workload = z.union([
  z.looseObject({
    kind: z.enum(['Job', 'Deployment', 'StatefulSet']),
    metadata: Named,
    spec: PodOwner,
  }),
  z
    .looseObject({
      kind: z.literal('CronJob'),
      metadata: Named,
      spec: z.looseObject({ jobTemplate: z.looseObject({ spec: PodOwner }) }),
    })
    .transform(({ kind, metadata, spec }) => ({ kind, metadata, spec: spec.jobTemplate.spec })),
]);
const Kind = z.looseObject({ kind: z.enum(['Job', 'CronJob', 'Deployment', 'StatefulSet']) });

function workloadsIn(path: string): z.infer<typeof Workload>[] {
  return documentsIn(path)
    .filter((document) => Kind.safeParse(document).success)
    .map((document) => Workload.parse(document));
}

/** A container of a pod of Kubernetes. */
export interface DeployedContainer {
  readonly place: string;
  readonly kind: z.infer<typeof Kind>['kind'];
  readonly pod: z.infer<typeof Pod>;
  readonly container: z.infer<typeof Container>;
}

/** Every container with an image of qianmo, in the order in which a pod runs them. */
export function containersIn(path: string): DeployedContainer[] {
  return workloadsIn(path).flatMap(({ kind, metadata, spec }) => {
    const pod = spec.template.spec;
    return [...pod.initContainers, ...pod.containers]
      .filter(({ image }) => image.includes('qianmo-'))
      .map((container) => ({
        ...{ place: `${path} ${metadata.name} ${container.name}`, kind, pod, container },
      }));
  });
}

/** The exit codes with which a Job fails at once, whatever container has ended. */
export function failingCodesOf(path: string): number[][] {
  return workloadsIn(path)
    .flatMap(({ spec }) => spec.podFailurePolicy?.rules ?? [])
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
  const ofPods = renderedFiles
    .flatMap(containersIn)
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
  return [
    ...[...ofPods, ...ofBatch, refreshCommand(), ...ofCompose, ...imageCommands()],
    ...[workersCommand(), ...SUBMISSIONS.flatMap(submittedCommands)],
  ];
}

function imageCommands(): DeployedCommand[] {
  const text = readFileSync(DOCKERFILE, 'utf8');
  return [...text.matchAll(/^CMD (\[.*\])$/gm)].map(([, list = '']) => ({
    place: `${DOCKERFILE} CMD`,
    words: words.parse(JSON.parse(list)),
  }));
}

const RefreshTemplate = z.looseObject({
  Parameters: z.record(z.string(), z.looseObject({ Default: z.string().optional() })),
  Resources: z.looseObject({
    Refresh: z.looseObject({
      Properties: z.looseObject({ Target: z.looseObject({ Input: z.string() }) }),
    }),
  }),
});
const BatchSubmission = z.looseObject({
  ContainerOverrides: z.looseObject({ Command: words }),
});

/** What the schedule of AWS submits, with the defaults of its parameters. */
function refreshCommand(): DeployedCommand {
  const { Parameters, Resources } = RefreshTemplate.parse(documentsIn(BATCH_REFRESH)[0]);
  const text = Resources.Refresh.Properties.Target.Input.replace('!Sub ', '').replace(
    /\$\{(\w+)\}/g,
    (_, name: string) => Parameters[name]?.Default ?? 'word',
  );
  const { Command } = BatchSubmission.parse(JSON.parse(text)).ContainerOverrides;
  return { place: BATCH_REFRESH, words: Command };
}

/** The worker that a script starts where it is given no other command, with its variables replaced. */
function workersCommand(): DeployedCommand {
  const [place = ''] = SLURM;
  const text = readFileSync(place, 'utf8');
  const call = /set -- (worker .*)$/m.exec(text)?.[1];
  if (call === undefined) throw new Error(`${place} starts no worker`);
  const plain = call
    .replace(/\$\{\w+:-([^}]*)\}/g, '$1')
    .replace(/\$\w+/g, 'word')
    .replace(/"/g, '');
  return { place, words: plain.trim().split(/\s+/) };
}

/** The commands that a script submits for a config alone. */
function submittedCommands(place: string): DeployedCommand[] {
  const list = /set -- (".*")$/m.exec(readFileSync(place, 'utf8'))?.[1];
  if (list === undefined) throw new Error(`${place} submits no commands`);
  return [...list.matchAll(/"([^"]*)"/g)].map(([, command = '']) => ({
    place,
    words: command.replace(/\$\w+/, 'run.yaml').split(' '),
  }));
}
