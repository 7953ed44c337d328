/**
 * The neighbours of a job's tasks, as the job names them, and the rows that its row pack must
 * cover.
 */

import { LruCache } from '../../shared/base/lru-cache.js';
import { type MethodConfig, methodPlanOf } from '../../shared/methods/methods.js';
import { neighbourRowsOf } from '../../shared/tasks/rows/neighbour-rows.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { tasksInOrder } from '../scoring/held-out-rows.js';
import { type EncodedFeature, unseenBucketsOf } from '../../shared/tasks/store-manifest.js';

export interface JobNeighbours {
  /**
   * The fields that the job gets: task indices for each of its tasks; empty if the method reads
   * none.
   */
  readonly named: { readonly neighbours?: number[][] };
  readonly rows: readonly TaskRows[];
}

export const NO_NEIGHBOURS: JobNeighbours = { named: {}, rows: [] };

/** @param store the store as it is on disk. */
export async function jobNeighboursOf(
  store: TaskStore,
  method: MethodConfig,
  tasks: readonly TaskRows[],
): Promise<JobNeighbours> {
  const choice = methodPlanOf(method).innerLoop.reads.neighbours;
  if (choice === undefined) return NO_NEIGHBOURS;
  const index = await indexOf(store, choice.feature);
  const neighbours = tasks.map((task) => index.neighboursOf(task, choice.count));
  const distinct = await store.readTasks([...new Set(neighbours.flat())]);
  const rows = distinct.map((task) => neighbourRowsOf(task));
  return { named: { neighbours }, rows };
}

/** The content of a store does not change. */
const KEPT_INDICES_MAX = 4;
type KeptIndices = LruCache<string, Promise<NeighbourIndex>>;
const INDICES = new WeakMap<TaskStore, KeptIndices>();

function indexOf(store: TaskStore, feature: string): Promise<NeighbourIndex> {
  const ofStore: KeptIndices = INDICES.get(store) ?? new LruCache({ countMax: KEPT_INDICES_MAX });
  INDICES.set(store, ofStore);
  const known = ofStore.get(feature);
  if (known !== undefined) return known;
  const index = neighbourIndexOf(trainingRows(store), knownIdsOf(store.manifest.features, feature));
  void ofStore.put(feature, index);
  return index;
}

async function* trainingRows(store: TaskStore): AsyncGenerator<TaskRows> {
  const training = store.tasks.filter(({ split }) => split === 'train');
  const indices = training.map(({ taskIndex }) => taskIndex);
  for await (const task of tasksInOrder(store, indices)) yield neighbourRowsOf(task);
}

const ID_TASKS_MAX = 1000;

interface NeighbourIndex {
  /** The indices of at most `count` tasks, the most similar first. */
  neighboursOf(task: TaskRows, count: number): number[];
}

type IdsOf = (task: TaskRows) => ReadonlySet<number>;

/**
 * Finds the neighbours of a task: the training tasks with the largest Jaccard similarity
 *
 *   |ids(i) and ids(j)| / |ids(i) or ids(j)|
 *
 * of the ids that their support rows have in one feature, with ties broken by task index. Unknown values
 * do not count. Ids that more than `ID_TASKS_MAX` training tasks have do not count either: they
 * distinguish tasks least and would cost most. A task that shares a row with the given task is not its
 * neighbour, since it would reveal the labels that the task is judged by. This excludes the task itself
 * and tasks made of the same rows of the logs.
 *
 * @param candidates the training tasks with their support rows only, as neighbours are read.
 */
export async function neighbourIndexOf(
  candidates: AsyncIterable<TaskRows> | Iterable<TaskRows>,
  idsOf: IdsOf,
  idTasksMax = ID_TASKS_MAX,
): Promise<NeighbourIndex> {
  const tasksById = new Map<number, number[]>();
  const logRowsByTask = new Map<number, Float64Array>();
  for await (const candidate of candidates) {
    logRowsByTask.set(candidate.taskIndex, candidate.logRows);
    for (const id of idsOf(candidate)) {
      const having = tasksById.get(id) ?? [];
      // One more than the bound shows that there are too many.
      if (having.length <= idTasksMax) having.push(candidate.taskIndex);
      tasksById.set(id, having);
    }
  }
  const passedOver = new Set<number>();
  const idCountByTask = new Map<number, number>();
  for (const [id, having] of tasksById)
    if (having.length > idTasksMax) passedOver.add(id);
    else for (const index of having) increment(idCountByTask, index);

  return {
    neighboursOf: (task, count) => {
      const ids = [...idsOf(neighbourRowsOf(task))].filter((id) => !passedOver.has(id));
      const sharedByTask = new Map<number, number>();
      for (const id of ids)
        for (const index of tasksById.get(id) ?? []) increment(sharedByTask, index);
      const similar = [...sharedByTask].map(([index, shared]) => ({
        index,
        similarity: shared / (ids.length + (idCountByTask.get(index) ?? 0) - shared),
      }));
      similar.sort((a, b) => b.similarity - a.similarity || a.index - b.index);
      const ownLogRows = new Set(task.logRows);
      const neighbours: number[] = [];
      for (const { index } of similar) {
        if (neighbours.length === count) break;
        if (logRowsByTask.get(index)?.every((row) => !ownLogRows.has(row)) === true)
          neighbours.push(index);
      }
      return neighbours;
    },
  };
}

function increment(counts: Map<number, number>, key: number): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/**
 * The known ids of a category or bag. Id 0 and those of unseen values are none; empty places and their trained row are not
 * values.
 */
export function knownIdsOf(features: readonly EncodedFeature[], name: string): IdsOf {
  const feature = features.find((each) => each.name === name);
  if (feature === undefined || feature.kind === 'number')
    throw new Error(`the task store has no category or bag ${name}`);
  const { kind, rowCount } = feature;
  const unseenBuckets = unseenBucketsOf(feature);
  const place = features.filter((each) => each.kind === kind).indexOf(feature);
  return ({ categoryIds, bagIds }) => {
    const ids = (kind === 'category' ? categoryIds : bagIds)[place] ?? [];
    return new Set([...ids].filter((id) => id > unseenBuckets && id < rowCount));
  };
}
