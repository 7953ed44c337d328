/** Opens the task store, the model, the checkpoints and the reports that a run config names. */

import { resolve } from 'node:path';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { storeForModel } from '../../shared/tasks/trained-padding.js';
import { modelSpecOf, type ModelSpec } from '../../shared/models/model-spec.js';
import { configHash, decidingPart, type RunConfig } from '../../shared/config/run-config.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { probeConditionalWrites } from '../../shared/storage/conditional-writes.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  openCheckpoints,
  readMetaParameters,
  type Checkpoints,
  type SavedMetaParameters,
} from '../checkpoints/checkpoint-writer.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { RunContext } from './call/run-context.js';

export function objectStoreOf(config: RunConfig, address: string): ObjectStore {
  return openObjectStore(address, s3OptionsOf(config.storage));
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
  { manifest }: Pick<TaskStore, 'manifest'>,
): ModelSpec {
  return modelSpecOf(model, manifest.features, method, training.trainable);
}

export function checkpointsOf(run: PreparedRun, context: RunContext): Checkpoints {
  return openCheckpoints({
    ...checkpointSourceOf(run, context),
    kept: run.config.training.checkpointsKept,
    clock: context.clock,
  });
}

/** The latest checkpoint without the optimizer's state; null if there is none. */
export function savedMetaParametersOf(
  run: PreparedRun,
  context: RunContext,
): Promise<SavedMetaParameters | null> {
  return readMetaParameters(checkpointSourceOf(run, context));
}

type CheckpointSource = Parameters<typeof readMetaParameters>[0];

function checkpointSourceOf(run: PreparedRun, { sink }: RunContext): CheckpointSource {
  const { config, store, spec } = run;
  return {
    store: objectStoreOf(config, joinAddress(config.output, 'checkpoints')),
    runName: config.run,
    configHash: configHash(config),
    deciding: decidingPart(config),
    storeDigest: store.digest,
    spec,
    sink,
  };
}

/** Warns, once at the start, if the store ignores conditional writes: two coordinators would collide. */
export async function warnOfUnconditionalWrites(
  config: RunConfig,
  { sink }: RunContext,
  address = joinAddress(config.output, 'checkpoints'),
): Promise<void> {
  const store = objectStoreOf(config, address);
  if (await probeConditionalWrites(store)) return;
  sink({ kind: 'writes-unconditional', address: store.address });
}

/** The address of the store for workers, which may run in another folder. */
export function storeAddressOf(config: RunConfig): string {
  const { store } = config.data;
  return store.startsWith('s3://') ? store : resolve(store.replace(/^file:\/\//, ''));
}

export function joinAddress(address: string, child: string): string {
  return `${address.replace(/\/+$/, '')}/${child}`;
}
