/**
 * Bags whose empty places have a trained row of their own, the last one of their table. Tasks are read as
 * if the id of that row stood in every empty place, so that the row is sent, pooled and learned like any
 * member. Coordinator and worker must read tasks in the same way, since both derive the row pack from
 * them.
 */

import type { StoreManifest } from './store-manifest.js';
import { plannedRowsOf, taskViewsOf, type TaskRows, type TaskStore } from './task-store.js';

interface PaddingSetting {
  readonly padding?: 'masked' | 'trained' | undefined;
}

/** The store as the model reads it. */
export function storeForModel(model: PaddingSetting, store: TaskStore): TaskStore {
  if (model.padding !== 'trained') return store;
  const bags = store.manifest.features.filter(({ kind }) => kind === 'bag');
  const paddingId = (bag: number): number => paddingIdOf(bags[bag]);
  const padded = <Rows extends Pick<TaskRows, 'bagIds'>>(task: Rows): Rows => ({
    ...task,
    bagIds: withTrainedPadding(model, task.bagIds, paddingId),
  });
  const { manifest, digest, tasks } = store;
  return {
    ...{ manifest, digest, tasks },
    readTasks: async (taskIndices) => (await store.readTasks(taskIndices)).map(padded),
    readPlannedRows: async (taskIndices) => (await plannedRowsOf(store, taskIndices)).map(padded),
    viewTasks: async (taskIndices) => (await taskViewsOf(store, taskIndices)).map(padded),
    close: () => store.close(),
  };
}

/** Bags as a model reads them. */
export function withTrainedPadding(
  { padding }: PaddingSetting,
  bagIds: readonly Int32Array[],
  paddingId: (bag: number) => number,
): readonly Int32Array[] {
  if (padding !== 'trained') return bagIds;
  return bagIds.map((ids, bag) => ids.map((id) => (id < 0 ? paddingId(bag) : id)));
}

/** The id after those of the dictionary or the hash. */
function paddingIdOf(feature: StoreManifest['features'][number] | undefined): number {
  if (feature?.kind !== 'bag') throw new Error('a task has more bags than its store has features');
  return feature.rowCount;
}
