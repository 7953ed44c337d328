/**
 * The interface of a task store for coordinator and workers. The reader is in
 * `task-store-reader.ts`.
 */

import type { EncodedFeature, StoreManifest, StoredColumnTypes } from './store-manifest.js';
import type { StoredTargetEncoding } from './target-encoding.js';
import type { LossKind } from './task-label.js';

/**
 * The split of adgroups, or `trunk`: a batch of rows of several adgroups that train as an adgroup without support rows
 * does and belong to no task.
 */
export type TaskSplit = 'train' | 'validation' | 'test' | 'trunk';

/** The splits of tasks that are adgroups. */
export type AdgroupSplit = Exclude<TaskSplit, 'trunk'>;

/** The place of a task's rows. */
export interface TaskPlace {
  readonly fileIndex: number;
  readonly batchIndex: number;
  readonly rowOffset: number;
}

/** One row of the catalog. A task's index is its place in the catalog. */
export interface TaskEntry {
  readonly taskIndex: number;
  /** The values of the task columns, joined with U+001F. */
  readonly key: string;
  readonly split: TaskSplit;
  readonly supportRowCount: number;
  readonly queryRowCount: number;
  /**
   * Time of its first row in the logs, including rows that were left out; null if the store does
   * not say.
   */
  readonly firstSeenTime: number | null;
  /** The place of its label in the manifest; absent if the manifest has no labels. */
  readonly labelIndex?: number;
  /** The append, from 1, that last brought rows of it; absent or 0 if none did. */
  readonly changedIn?: number;
}

/** The part of a task's rows that planning an outer step needs. */
export type PlannedRows = Pick<
  TaskRows,
  'taskIndex' | 'supportRowCount' | 'categoryIds' | 'bagIds' | 'impressions'
>;

/** The rows of one task, support before query; every array is in row order. */
export interface TaskRows {
  readonly taskIndex: number;
  readonly rowCount: number;
  readonly supportRowCount: number;
  /** The loss; binary if absent. */
  readonly loss?: LossKind;
  /** A batch of rows of many tasks, which train the trunk only. */
  readonly isTrunk?: true;
  /** By category feature, in manifest order: `[rowCount]`. */
  readonly categoryIds: readonly Int32Array[];
  /** By bag feature, in manifest order: `[rowCount, lengthMax]`, -1 in empty places. */
  readonly bagIds: readonly Int32Array[];
  /** By number feature, in manifest order: `[rowCount]`. */
  readonly numbers: readonly Float32Array[];
  /** In place of `numbers` in losses before adaptation; absent where these are the same. */
  readonly unadaptedNumbers?: readonly Float32Array[];
  /**
   * Clicks, or for a squared loss the standardised value times weight. `[rowCount]`, like all that
   * follow.
   */
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
  /** Known true click probability, or for a squared loss the standardised true mean; otherwise null. */
  readonly oracle: Float32Array | null;
  /** Seconds since the epoch or the number found, `[rowCount]`; 0 without a time column. */
  readonly times: Float64Array;
  /** Number of each row in the logs. */
  readonly logRows: Float64Array;
}

export interface TaskStore {
  readonly manifest: StoreManifest;
  /** SHA-256 of the manifest's bytes: names the store's content. */
  readonly digest: string;
  readonly tasks: readonly TaskEntry[];
  /** Where the rows of each task lie; absent where the store is no folder. */
  readonly places?: readonly TaskPlace[];
  /**
   * The rows as views on the part of the store that they are read from, which they keep in memory. They are not written
   * to, and should not be held.
   *
   * @throws QianmoError of kind `data` if the store is truncated or was changed.
   */
  readTasks(taskIndices: readonly number[]): Promise<TaskRows[]>;
  /**
   * The value of each id of a feature that is encoded by dictionary, null for id 0; absent where the store
   * holds no dictionaries.
   *
   * @throws as `readTasks` does.
   */
  readDictionary?(featureName: string): Promise<readonly (string | null)[]>;
  /**
   * The target encoding of these categories; absent where the store has none.
   *
   * @throws as `readTasks` does.
   */
  readTargetEncoding?(categories: readonly string[]): Promise<StoredTargetEncoding>;
  /**
   * The types of the logs' columns; empty if the store does not say, and absent where there were no logs.
   *
   * @throws as `readTasks` does.
   */
  readColumnTypes?(): Promise<StoredColumnTypes>;
  /**
   * The file of rows that wait until their adgroups are large enough; null if there are none.
   *
   * @throws as `readTasks` does.
   */
  waitingRowsPath?(): Promise<string | null>;
  close(): Promise<void>;
}

/** The tasks that are adgroups: all but the batches of trunk rows. */
export function adgroupsOf({ tasks }: Pick<TaskStore, 'tasks'>): readonly TaskEntry[] {
  return tasks.some(({ split }) => split === 'trunk')
    ? tasks.filter(({ split }) => split !== 'trunk')
    : tasks;
}

/** The features as the store of this digest had them; null if it never had that digest. */
export function featuresAt(
  { manifest, digest }: Pick<TaskStore, 'manifest' | 'digest'>,
  wanted: string,
): EncodedFeature[] | null {
  if (wanted === digest) return manifest.features;
  const append = manifest.appends?.find(({ earlierDigest }) => earlierDigest === wanted);
  if (append === undefined) return null;
  return manifest.features.map((feature) => {
    const rowCount = append.earlierRowCounts[feature.name];
    return feature.kind === 'number' || rowCount === undefined ? feature : { ...feature, rowCount };
  });
}

/** Tells which tasks have rows that the store of this digest had not; null if it never had that digest. */
export function changedSince(
  { manifest, digest }: Pick<TaskStore, 'manifest' | 'digest'>,
  wanted: string,
): ((task: TaskEntry) => boolean) | null {
  const appends = manifest.appends ?? [];
  const known =
    wanted === digest
      ? appends.length
      : appends.findIndex(({ earlierDigest }) => earlierDigest === wanted);
  return known < 0 ? null : ({ changedIn = 0 }) => changedIn > known;
}

interface PaddingSetting {
  readonly padding?: 'masked' | 'trained' | undefined;
}

/** The store as the model reads it. */
export function storeForModel(model: PaddingSetting, store: TaskStore): TaskStore {
  if (model.padding !== 'trained') return store;
  const bags = store.manifest.features.filter(({ kind }) => kind === 'bag');
  const paddingId = (bag: number): number => paddingIdOf(bags[bag]);
  const { manifest, digest, tasks } = store;
  return {
    ...{ manifest, digest, tasks },
    readTasks: async (taskIndices) =>
      (await store.readTasks(taskIndices)).map((task) => ({
        ...task,
        bagIds: withTrainedPadding(model, task.bagIds, paddingId),
      })),
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
