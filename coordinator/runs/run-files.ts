/** Opens the task store, the model, the checkpoints and the reports that a run config names. */

import { freshNonce } from '../../shared/base/nonce.js';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import {
  type SavedMetaParameters,
  readMetaParameters,
  grownParameters,
} from '../checkpoints/checkpoint-reader.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { StoreManifest } from '../../shared/tasks/store-manifest.js';
import { featuresAt, type TaskStore, storeForModel } from '../../shared/tasks/task-store.js';
import { modelSpecOf, type ModelSpec } from '../../shared/models/model-spec.js';
import { configHash, decidingPart, type RunConfig } from '../../shared/config/run-config.js';
import { FileObjectStore } from '../../shared/storage/file-object-store.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import {
  probeConditionalWrites,
  type ObjectStore,
  joinAddress,
} from '../../shared/storage/object-store.js';
import { StoreWait, waitingStore } from '../../shared/storage/waiting-object-store.js';
import { openCheckpoints, type Checkpoints } from '../checkpoints/checkpoint-writer.js';
import { latestManifestOf, outerStepsOf } from '../checkpoints/checkpoint-manifest.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import type { HeldLease } from '../../shared/storage/lease.js';
import { claimRun } from '../dispatch/run-lease.js';
import type { RunContext } from './run-context.js';
import { storeAddressOf } from './places.js';
import {
  objectStoreAway,
  objectStoreBack,
  warningEvent,
  type RunEvent,
} from '../../shared/events/run-events.js';

/** @param caller work that waits for a bucket that is away; without it, calls fail at once. */
export function objectStoreOf(
  config: RunConfig,
  address: string,
  caller: RunCaller | null = null,
): ObjectStore {
  const store = openObjectStore(address, s3OptionsOf(config.storage));
  return caller === null || store instanceof FileObjectStore
    ? store
    : waitingStore(store, storeWaitOf(config, caller));
}

/** Every store of a call shares the wait, so an outage is reported once. */
const waitBySignal = new WeakMap<AbortSignal, StoreWait>();

function storeWaitOf({ queue }: RunConfig, { clock, signal, sink }: RunCaller): StoreWait {
  const known = waitBySignal.get(signal);
  if (known !== undefined) return known;
  const wait = new StoreWait({
    ...{ clock, signal, waitMs: queue.outerStepTimeoutMs, waitField: 'queue.outerStepTimeoutMs' },
    onAway: (outage) => sink(objectStoreAway(outage)),
    onBack: (awayMs) => sink(objectStoreBack(awayMs)),
  });
  waitBySignal.set(signal, wait);
  return wait;
}

export async function openPreparedRun(
  config: RunConfig,
  context: RunContext,
): Promise<PreparedRun> {
  return preparedRunOn(await openStoreAsPrepared(config, context), config);
}

/** Opens the store as `prepare` wrote it, without the view of any model. */
export async function openStoreAsPrepared(
  config: RunConfig,
  context: RunContext,
): Promise<TaskStore> {
  const store = await openTaskStore(config.data.store, {
    checkedFiles: context.checkedFiles,
    objectStoreOf: (address) => objectStoreOf(config, address),
  });
  context.onClose(() => store.close());
  return store;
}

/** @param store as prepared, because runs on one store may have different models */
export function preparedRunOn(store: TaskStore, config: RunConfig): PreparedRun {
  return {
    config,
    store: storeForModel(config.model, store),
    storeAddress: storeAddressOf(config),
    spec: specOf(config, store),
  };
}

/** The variables and tables of the run's model and method, and which of them are frozen. */
export function specOf(
  { model, method, training }: RunConfig,
  { manifest }: { readonly manifest: Pick<StoreManifest, 'features'> },
): ModelSpec {
  return modelSpecOf(model, manifest.features, method, training.trainable);
}

/** @param claim the right to write them; absent where the caller has another. */
export function checkpointsOf(
  run: PreparedRun,
  context: RunContext,
  claim: HeldLease | null = null,
): Checkpoints {
  return openCheckpoints({
    ...checkpointSourceOf(run, context),
    // As it was before logs were appended.
    growth: {
      specAt: (storeDigest) => {
        const features = featuresAt(run.store, storeDigest);
        return features === null ? null : specOf(run.config, { manifest: { features } });
      },
    },
    kept: run.config.training.checkpointsKept,
    tableDigest: run.config.training.tableDigest,
    clock: context.clock,
    ...(claim === null ? {} : { claim }),
  });
}

interface SavedForStore extends SavedMetaParameters {
  /** As they were trained; `metaParameters` have more rows if dictionaries have grown since. */
  readonly trained: MetaParameters;
  /** The number of outer steps of the run, complete or to come. */
  readonly outerSteps: number;
}

/**
 * The latest checkpoint without the optimizer's state, for the task store as it is now; null if there is
 * none. The store may have been another one when it was trained: logs may have been appended since.
 */
export async function savedMetaParametersOf(
  run: PreparedRun,
  context: RunContext,
): Promise<SavedForStore | null> {
  const source = checkpointSourceOf(run, context);
  // The best checkpoint may be older than an extension.
  const latest = await latestManifestOf(source.store);
  const trainedOn = latest?.storeDigest ?? null;
  const features = trainedOn === null ? null : featuresAt(run.store, trainedOn);
  const earlier =
    trainedOn === null || features === null
      ? source
      : { ...source, storeDigest: trainedOn, spec: specOf(run.config, { manifest: { features } }) };
  const saved = await readMetaParameters(earlier);
  if (saved === null) return null;
  const trained = saved.metaParameters;
  const metaParameters = grownParameters(trained, run.spec);
  const outerSteps = outerStepsOf(latest ?? {}, run.config.training);
  return { ...saved, trained, metaParameters, outerSteps };
}

type CheckpointSource = Parameters<typeof readMetaParameters>[0];

function checkpointSourceOf(run: PreparedRun, context: RunContext): CheckpointSource {
  const { config, store, spec } = run;
  const { sink } = context;
  return {
    store: objectStoreOf(config, checkpointAddressOf(config), context),
    runName: config.run,
    configHash: configHash(config),
    deciding: decidingPart(config),
    storeDigest: store.digest,
    spec,
    sink,
  };
}

export function checkpointAddressOf({ output }: Pick<RunConfig, 'output'>): string {
  return joinAddress(output, 'checkpoints');
}

/**
 * Claims a place for one coordinator. Returns null, with a warning, if its store ignores conditional
 * writes: two coordinators would collide.
 *
 * @throws QianmoError `taken` if another coordinator works there.
 */
export async function claimedPlace(
  config: RunConfig,
  { run, address }: { readonly run: string; readonly address: string },
  context: RunContext,
): Promise<HeldLease | null> {
  const { sink, clock, signal } = context;
  const store = objectStoreOf(config, address, context);
  if (await probeConditionalWrites(store))
    return claimRun({ store, run, start: freshNonce(), clock, sink, signal });
  sink(writesUnconditional(store.address));
  return null;
}

export function writesUnconditional(address: string): RunEvent {
  const text = `${address} ignores conditional writes: start only one coordinator of this run`;
  return warningEvent('writes-unconditional', text);
}
