/**
 * Bags whose empty places have a trained row of their own, the last one of their table. Tasks are read as
 * if the id of that row stood in every empty place, so that the row is sent, pooled and learned like any
 * member. Coordinator and worker must read tasks in the same way, since both derive the row pack from
 * them.
 */

import type { StoreManifest } from './store-manifest.js';
import type { TaskRows, TaskStore } from './task-store.js';

/** The store as the model reads it. */
export function storeForModel(
  { padding }: { readonly padding?: 'masked' | 'trained' | undefined },
  store: TaskStore,
): TaskStore {
  if (padding !== 'trained') return store;
  return {
    ...store,
    readTasks: async (taskIndices) =>
      (await store.readTasks(taskIndices)).map((task) => padded(task, store.manifest)),
    close: () => store.close(),
  };
}

function padded(task: TaskRows, { features }: StoreManifest): TaskRows {
  const bags = features.filter(({ kind }) => kind === 'bag');
  return {
    ...task,
    bagIds: task.bagIds.map((ids, bag) => {
      const paddingId = paddingIdOf(bags[bag]);
      return ids.map((id) => (id < 0 ? paddingId : id));
    }),
  };
}

/** The id after those of the dictionary or the hash. */
function paddingIdOf(feature: StoreManifest['features'][number] | undefined): number {
  if (feature?.kind !== 'bag') throw new Error('a task has more bags than its store has features');
  return feature.rowCount;
}
