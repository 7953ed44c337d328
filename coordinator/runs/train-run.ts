/** Trains a run from its first or latest outer step to the last. */

import { type QianmoError, isInterruption, errorOf } from '../../shared/base/errors.js';
import { type RunConfig, configDifferences } from '../../shared/config/run-config.js';
import { noticeEvent, toldBy } from '../../shared/events/run-events.js';
import { s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { validationLossOf } from '../evaluation/validation-score.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { train } from '../training/outer-loop.js';
import type { TrainingOutcome, StartFrom } from '../training/train-options.js';
import { chosenConfigOf } from './places.js';
import { openWithDispatch, type RunDispatch } from './dispatch-for-run.js';
import { loggedRun, trackedCallOf } from './logged-run.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';
import {
  checkpointAddressOf,
  checkpointsOf,
  claimedPlace,
  openPreparedRun,
  objectStoreOf,
} from './run-files.js';
import { z } from 'zod';
import { averagedForm, averagedParameters, type AveragedMember } from '../sweep/averaged-model.js';
import {
  readMetaParameters,
  type CheckpointIdentity,
  grownParameters,
} from '../checkpoints/checkpoint-reader.js';
import { latestManifestOf } from '../checkpoints/checkpoint-manifest.js';
import { ModelConfigSchema, type ModelConfig } from '../../shared/models/model-config.js';
import { describeIssues } from '../../shared/config/config-issues.js';
import { MethodConfigSchema, type MethodConfig } from '../../shared/methods/methods.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { featuresAt } from '../../shared/tasks/task-store.js';

/** The end of a training: the last checkpoint and the digest of its meta-parameters. */
export interface TrainingResult {
  readonly run: string;
  /** Completed outer steps, including those before a resume. */
  readonly outerSteps: number;
  /** Address of the last checkpoint. */
  readonly checkpoint: string;
  readonly digest: string;
}

interface TrainingStartChoice {
  readonly resume: boolean;
  readonly fresh: boolean;
  /** The number of outer steps to train to, instead of that of the checkpoint or the config. */
  readonly extendTo?: number;
}

export async function trainRun(
  request: RequestOf<'train'>,
  context: RunContext,
): Promise<TrainingResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  return loggedRun(trackedCallOf('train', config, request.fresh), context, async (logged) => {
    const [run, dispatch] = await openWithDispatch(config, request, logged, () =>
      openPreparedRun(config, logged),
    );
    if (request.dashboard) await serveDashboard(config, dispatch, logged);
    return trainedRun(run, dispatch, request, logged);
  });
}

/** Trains an open run on its dispatcher. */
export async function trainedRun(
  run: PreparedRun,
  dispatch: RunDispatch,
  start: TrainingStartChoice,
  context: RunContext,
): Promise<TrainingResult> {
  const { outerSteps, address, digest } = await trainOn(run, dispatch, start, context);
  return { run: run.config.run, outerSteps, checkpoint: address, digest };
}

export async function trainOn(
  run: PreparedRun,
  { dispatcher }: RunDispatch,
  { resume, fresh, extendTo }: TrainingStartChoice,
  caller: RunContext,
): Promise<TrainingOutcome> {
  const { config } = run;
  // The global arm of an evaluation is a run with its own name.
  const context: RunContext = { ...caller, sink: toldBy({ runId: config.run }, caller.sink) };
  const { signal } = context;
  const place = { run: config.run, address: checkpointAddressOf(config) };
  const claim = await claimedPlace(config, place, context);
  try {
    const startFrom = await startFromRun(run, { resume }, context);
    const validationLoss = validationLossOf({ ...run, dispatcher, signal });
    return await train({
      ...{ run, dispatcher },
      ...(validationLoss === undefined ? {} : { validationLoss }),
      checkpoints: checkpointsOf(run, context, claim),
      start: {
        ...{ resume, fresh },
        ...(startFrom === null ? {} : { startFrom }),
        ...(extendTo === undefined ? {} : { extendTo }),
      },
      caller: {
        ...context,
        signal: claim === null ? signal : AbortSignal.any([signal, claim.lost]),
      },
    });
  } catch (error) {
    if (claim?.lost.aborted === true && isInterruption(error)) await claim.demand();
    throw error;
  } finally {
    await claim?.release();
  }
}

/** Serves the pages of this run until the context closes. */
async function serveDashboard(
  config: RunConfig,
  { redisUrl }: RunDispatch,
  context: RunContext,
): Promise<void> {
  const { servedDashboard } = await import('./cancel-run.js');
  const dashboard = await servedDashboard(
    {
      ...{ redis: redisUrl, prefix: config.queue.prefix },
      ...{ roots: [config.output], servers: [], s3: s3OptionsOf(config.storage) },
      ...{ port: 0, host: '127.0.0.1', hostsAllowed: [], token: null, allowControl: false },
    },
    context,
  );
  context.onClose(() => dashboard.close());
  context.sink(noticeEvent('queue-board-served', `dashboard: ${dashboard.url}`));
}

const ModelAndMethodSchema = z.object({ model: ModelConfigSchema, method: MethodConfigSchema });

/**
 * Null if the config names no run, or if a resume continues from the run's own checkpoint.
 *
 * @throws QianmoError `usage` if there is no checkpoint, or it belongs to another task store.
 */
export async function startFromRun(
  run: PreparedRun,
  { resume }: { readonly resume: boolean },
  context: RunContext,
): Promise<StartFrom | null> {
  const { config } = run;
  const { startFrom } = config.training;
  if (startFrom === undefined) return null;
  if (resume) {
    const own = objectStoreOf(config, checkpointAddressOf(config));
    if ((await latestManifestOf(own)) !== null) return null;
  }
  return typeof startFrom === 'string'
    ? startFromOne(run, startFrom, context)
    : startFromAverage(run, startFrom.average, context);
}

async function startFromOne(
  { config, store }: PreparedRun,
  output: string,
  { sink }: RunContext,
): Promise<StartFrom> {
  const found = await startingRun({ config, store }, output);
  const { parameters } = await grownMember(store, found, sink);
  return { metaParameters: parameters, where: found.where };
}

async function startFromAverage(
  { config, store, spec }: PreparedRun,
  outputs: readonly string[],
  { sink }: RunContext,
): Promise<StartFrom> {
  const where = 'training.startFrom.average';
  const refused = (expected: string, found: string, cure: string): QianmoError =>
    errorOf('usage', 'these runs have no average', { where, expected, found, cure });
  const starts = await Promise.all(outputs.map((output) => startingRun({ config, store }, output)));
  const members: AveragedMember[] = [];
  for (const start of starts) members.push(await grownMember(store, start, sink));
  const average = averagedForm(starts);
  if (average === null)
    throw refused(
      'models of the kinds logistic and deepfm that have one method and no personal blocks, or the method global and one of them posterior',
      starts.map(({ model: { kind }, method }) => `${kind} of ${method.kind}`).join(', '),
      'average runs that differ in their models and their training alone',
    );
  // As the global arm of an evaluation, the average is a model that adapts nothing.
  const { method } = config.method.kind === 'global' ? config : average;
  const differences = configDifferences(
    { model: learnedModel(average.model), method },
    { model: learnedModel(config.model), method: config.method },
  );
  if (differences.length > 0)
    throw refused(
      'the model and the method of their average, as qianmo auto writes them',
      `\n${differences.map((difference) => `    ${difference}`).join('\n')}`,
      'give the run these',
    );
  return { metaParameters: averagedParameters(spec, members), where };
}

/** A model without the fields that only decide how its parameters begin. */
function learnedModel({
  embeddingDeviation: _initial,
  initialisation: _values,
  ...model
}: ModelConfig): object {
  return model;
}

interface StartingRun {
  readonly where: string;
  readonly objects: ObjectStore;
  readonly model: ModelConfig;
  readonly method: MethodConfig;
  readonly identity: CheckpointIdentity;
  readonly refused: (found: string) => QianmoError;
}

async function startingRun(
  { config, store }: Pick<PreparedRun, 'config' | 'store'>,
  output: string,
): Promise<StartingRun> {
  const objects = objectStoreOf(config, checkpointAddressOf({ output }));
  const where = `training.startFrom: ${output}`;
  const refused = (found: string): QianmoError =>
    errorOf('usage', 'training cannot start from this run', {
      where,
      expected: 'the output of a run that was trained on the same task store',
      found,
      cure: 'train that run first, with the same data section, and name its output',
    });
  const manifest = await latestManifestOf(objects);
  if (manifest === null) throw refused('no checkpoint');
  // Logs may have been appended to the store since.
  const features = featuresAt(store, manifest.storeDigest);
  if (features === null) throw refused('a run on another task store');
  const { model, method } = manifest.decidingConfig;
  const parsed = ModelAndMethodSchema.safeParse({ model, method });
  if (!parsed.success) {
    const [fault = 'a config that this version cannot read'] = describeIssues(
      parsed.error.issues,
      { model, method },
      ModelAndMethodSchema,
    );
    throw refused(fault);
  }
  const { run: runName, configHash, decidingConfig: deciding, storeDigest } = manifest;
  const spec = modelSpecOf(parsed.data.model, features, parsed.data.method);
  const identity = { runName, configHash, deciding, storeDigest, spec };
  return { ...{ where, objects, identity, refused }, ...parsed.data };
}

/** The parameters of a run, with rows for the values that the store has now. */
async function grownMember(
  store: PreparedRun['store'],
  { objects, identity, model, method, refused }: StartingRun,
  sink: RunContext['sink'],
): Promise<AveragedMember> {
  const saved = await readMetaParameters({ ...identity, store: objects, sink });
  if (saved === null) throw refused('no checkpoint');
  const spec = modelSpecOf(model, store.manifest.features, method);
  const parameters = grownParameters(saved.metaParameters, spec);
  return { spec, parameters };
}
