/**
 * The neighbours of a job's tasks, as the job names them, and the rows that its row pack must
 * cover.
 */

import { canonicalJson } from '../../shared/base/canonical-json.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import { methodPlanOf, type MethodConfig } from '../../shared/methods/methods.js';
import { neighbourRowsOf } from '../../shared/tasks/rows/neighbour-rows.js';
import type { RowDivision } from '../../shared/tasks/rows/row-division.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { tasksInOrder } from '../scoring/held-out-rows.js';
import { knownIdsOf, neighbourIndexOf, type NeighbourIndex } from './neighbour-index.js';

export interface JobNeighbours {
  /**
   * The fields that the job gets: task indices for each of its tasks; empty if the method reads
   * none.
   */
  readonly named: { readonly neighbours?: number[][] };
  /** The rows of each neighbour once. */
  readonly rows: readonly TaskRows[];
}

export const NO_NEIGHBOURS: JobNeighbours = { named: {}, rows: [] };

/**
 * @param store the store as it is on disk.
 * @param division the division of the rows of `tasks`, which are already divided by it.
 */
export async function jobNeighboursOf(
  store: TaskStore,
  method: MethodConfig,
  tasks: readonly TaskRows[],
  division?: RowDivision,
): Promise<JobNeighbours> {
  const choice = methodPlanOf(method).innerLoop.reads.neighbours;
  if (choice === undefined) return NO_NEIGHBOURS;
  const index = await indexOf(store, choice.feature, division);
  const neighbours = tasks.map((task) => index.neighboursOf(task, choice.count));
  const distinct = await store.readTasks([...new Set(neighbours.flat())]);
  const rows = distinct.map((task) => neighbourRowsOf(task, division));
  return { named: { neighbours }, rows };
}

/**
 * The content of a store does not change, and a progressive replay finishes a period before the
 * next.
 */
export const KEPT_INDICES_MAX = 4;
type KeptIndices = LruCache<string, Promise<NeighbourIndex>>;
const INDICES = new WeakMap<TaskStore, KeptIndices>();

function indexOf(
  store: TaskStore,
  feature: string,
  division?: RowDivision,
): Promise<NeighbourIndex> {
  const ofStore: KeptIndices = INDICES.get(store) ?? new LruCache({ countMax: KEPT_INDICES_MAX });
  INDICES.set(store, ofStore);
  const key = canonicalJson([feature, division]);
  const known = ofStore.get(key);
  if (known !== undefined) return known;
  const index = neighbourIndexOf(
    trainingRows(store, division),
    knownIdsOf(store.manifest.features, feature),
  );
  void ofStore.put(key, index);
  return index;
}

async function* trainingRows(store: TaskStore, division?: RowDivision): AsyncGenerator<TaskRows> {
  const training = store.tasks.filter(({ split }) => split === 'train');
  const indices = training.map(({ taskIndex }) => taskIndex);
  for await (const task of tasksInOrder(store, indices)) yield neighbourRowsOf(task, division);
}
