/**
 * RunConfig: everything one run is. Parsed once, strictly, from one YAML file; frozen; hashed.
 * The hash covers what decides the meta-parameters and nothing else.
 */

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson, isRecord } from '../base/canonical-json.js';
import { MethodConfigSchema, methodMisfits, methodPlanOf } from '../methods/methods.js';
import { AutoConfigSchema } from './auto-config.js';
import { ComputeConfigSchema, QueueConfigSchema } from './compute-config.js';
import { AddressSchema, crowdMisfits, DataConfigSchema, declaredFeatures } from './data-config.js';
import { EvaluationConfigSchema } from './evaluation-config.js';
import { ExplorationConfigSchema } from './exploration-config.js';
import {
  decayIssues,
  GlobalTrainingConfigSchema,
  idDropoutMisfits,
  TrainingConfigSchema,
} from './training-config.js';
import {
  featureMisfits,
  hasHiddenLayers,
  ModelConfigSchema,
  tableNamesOf,
} from '../models/model-config.js';
import { StorageConfigSchema } from '../storage/open-object-store.js';
import { NOTICES } from '../names/event-terms.js';

const MlflowConfigSchema = z
  .strictObject({
    url: z
      .string()
      .max(2_048)
      .regex(/^https?:\/\/[^\s@?#/]+[^\s@?#]*$/, 'expected http(s)://HOST, without user or query')
      .optional()
      .describe('The address of the server; MLFLOW_TRACKING_URI by default.'),
    experiment: z
      .string()
      .min(1)
      .max(250)
      .default('qianmo')
      .describe('The name of the experiment, which is made when it is missing.'),
  })
  .describe('A tracking server of MLflow; credentials come from its variables.');

const WebhookConfigSchema = z
  .strictObject({
    on: z
      .array(z.enum(NOTICES))
      .min(1)
      .default([...NOTICES])
      .describe('The states that are told.'),
  })
  .describe('Notices that the run has finished, failed or stalled, to QIANMO_WEBHOOK_URL.');

const TrackingConfigSchema = z
  .strictObject({
    mlflow: MlflowConfigSchema.optional(),
    webhook: WebhookConfigSchema.optional(),
  })
  .describe(
    'Trackers that follow `train`, `evaluate`, `refresh` and open runs. A tracker that fails or hangs costs the run nothing.',
  );

const RunNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected lower-case letters, digits and -')
  .describe('The name of the run, on the queue and in its output.');

const RunFieldsSchema = z.strictObject({
  run: RunNameSchema,
  seed: z
    .int()
    .nonnegative()
    .max(Number.MAX_SAFE_INTEGER)
    .describe(
      'Decides initial values, sampling and splits. The same config and seed give the same bits.',
    ),
  data: DataConfigSchema.describe('Logs, tasks, labels, features and splits.'),
  auto: AutoConfigSchema.optional(),
  model: ModelConfigSchema.prefault({}).describe('The model and its personal blocks.'),
  method: MethodConfigSchema.prefault({ kind: 'fomaml' }).describe('How tasks adapt.'),
  training: TrainingConfigSchema.prefault({}),
  globalTraining: GlobalTrainingConfigSchema.prefault({}),
  evaluation: EvaluationConfigSchema.prefault({}),
  compute: ComputeConfigSchema.prefault({}),
  queue: QueueConfigSchema.prefault({}),
  exploration: ExplorationConfigSchema.prefault({}),
  output: AddressSchema.describe(
    'Checkpoints, reports and logs of the run: a folder or s3://bucket/prefix.',
  ),
  storage: StorageConfigSchema.prefault({}),
  tracking: TrackingConfigSchema.optional(),
});

export const RunConfigSchema = RunFieldsSchema.superRefine((config, context) => {
  const { data, model, method, training, globalTraining } = config;
  for (const { path, message } of featureMisfits(model, declaredFeatures(data)))
    context.addIssue({ code: 'custom', path: ['model', ...path], message });
  for (const { path, message } of methodMisfits(method, model))
    context.addIssue({ code: 'custom', path: ['method', ...path], message });
  for (const message of crowdMisfits(methodPlanOf(method).crowd, data))
    context.addIssue({ code: 'custom', path: ['method', 'crowd'], message });
  for (const { path, message } of idDropoutMisfits(training.idDropout, tableNamesOf(data.features)))
    context.addIssue({ code: 'custom', path: ['training', ...path], message });
  for (const field of ['dropout', 'inputDropout'] as const)
    if ((training[field] ?? 0) > 0 && !hasHiddenLayers(model))
      context.addIssue({
        code: 'custom',
        path: ['training', field],
        message: `is about hidden layers, and the model ${model.kind} has none: leave it out`,
      });
  if (methodPlanOf(method).learns === 'method' && training.startFrom === undefined)
    context.addIssue({
      code: 'custom',
      path: ['training', 'startFrom'],
      message: `${method.kind} keeps the model as it is: name the output of a run that has trained it`,
    });
  if (globalTraining.optimizer !== undefined)
    for (const { message } of decayIssues({ ...training, optimizer: globalTraining.optimizer }))
      context.addIssue({
        code: 'custom',
        path: ['globalTraining', 'optimizer', 'rate'],
        message: `training.weightDecay or tableWeightDecay ${message}`,
      });
  const drainEvery = training.staleness?.drainEveryOuterSteps ?? 1;
  const globalSteps = globalTraining.outerSteps ?? 0;
  if (globalSteps % drainEvery !== 0)
    context.addIssue({
      code: 'custom',
      path: ['globalTraining', 'outerSteps'],
      message: `must be a multiple of training.staleness.drainEveryOuterSteps: ${globalSteps} is none of ${drainEvery}`,
    });
});

export type RunConfig = z.infer<typeof RunConfigSchema>;

/**
 * The part of a config that decides the meta-parameters. Queue, storage, evaluation, retention and
 * trackers may change between stop and resume; these may not.
 */
export function decidingPart(config: RunConfig): Record<string, unknown> {
  const {
    checkpointEveryOuterSteps: _every,
    queryLossBeforeEveryOuterSteps: _queryLossBefore,
    checkpointsKept: _kept,
    // Checkpoints record which tasks were left out.
    poisonTasks: _poison,
    // It decides no bit of the parameters, and checkpoints say what their digest is over.
    tableDigest: _digest,
    ...training
  } = config.training;
  return {
    seed: config.seed,
    model: config.model,
    method: config.method,
    training,
  };
}

/** SHA-256 of the deciding part, independent of the order of keys. */
export function configHash(config: RunConfig): string {
  return createHash('sha256')
    .update(canonicalJson(decidingPart(config)))
    .digest('hex');
}

/** Paths at which two deciding parts differ, each as `training.outerSteps: 100 -> 200`. */
export function configDifferences(before: unknown, after: unknown, path = ''): string[] {
  if (canonicalJson(before) === canonicalJson(after)) return [];
  if (!isRecord(before) || !isRecord(after))
    return [`${path}: ${canonicalJson(before)} -> ${canonicalJson(after)}`];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return keys.flatMap((key) =>
    configDifferences(before[key], after[key], path === '' ? key : `${path}.${key}`),
  );
}
