/** Tasks of dbook as a task store in memory: ratings are values, standardised by the training rows. */

import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { AdgroupSplit, TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import type { Dbook } from './dbook-files.js';
import type { DbookTask } from './dbook-tasks.js';

const FEATURES = ['book', 'publisher', 'author', 'year', 'location'] as const;
type Feature = (typeof FEATURES)[number];

/**
 * The features of a store, with the training rows that a value needs to get its own id. `friends`
 * is a bag of the user and at most this many friends.
 */
export type FeatureTerms = Readonly<Partial<Record<Feature | 'friends', number>>>;

/** Returns the value of a feature; 0 means unknown. */
type ValueOf = (task: DbookTask, book: number) => number;

function valuesOf(dbook: Dbook): Readonly<Record<Feature, ValueOf>> {
  return {
    book: ({ part }, book) => (part === 'validation, books unknown' ? 0 : book),
    publisher: (_, book) => dbook.publishers.get(book) ?? 0,
    author: (_, book) => dbook.authors.get(book) ?? 0,
    year: (_, book) => dbook.years.get(book) ?? 0,
    location: ({ user }) => dbook.locations.get(user) ?? 0,
  };
}

export function storeOf(
  dbook: Dbook,
  tasks: readonly DbookTask[],
  terms: FeatureTerms,
  digest: string,
): TaskStore {
  const values = valuesOf(dbook);
  const encoded = FEATURES.flatMap((name) => {
    const countMin = terms[name];
    if (countMin === undefined) return [];
    const ids = idsIn(tasks, values[name], countMin);
    const feature: EncodedFeature = {
      ...{ name, kind: 'category', rowCount: ids.size + 1 },
      encoding: { by: 'dictionary' },
    };
    const idOf = (task: DbookTask, book: number): number => ids.get(values[name](task, book)) ?? 0;
    return [{ feature, idOf }];
  });
  const friends = terms.friends === undefined ? null : friendsOf(dbook, tasks, terms.friends);
  const moments = momentsOf(tasks);
  const rows = tasks.map((task, taskIndex): TaskRows => {
    const rowCount = task.books.length;
    return {
      ...{ taskIndex, rowCount, supportRowCount: task.supportRowCount, loss: 'squared' },
      categoryIds: encoded.map(({ idOf }) =>
        Int32Array.from(task.books, (book) => idOf(task, book)),
      ),
      bagIds: friends === null ? [] : [repeated(friends.idsOf(task.user), rowCount)],
      ...{ numbers: [], oracle: null },
      clicks: Float32Array.from(task.ratings, (r) => (r - moments.mean) / moments.deviation),
      impressions: new Float32Array(rowCount).fill(1),
      times: new Float64Array(rowCount),
      logRows: logRowsOf(task),
    };
  });
  return {
    manifest: {
      ...{ formatVersion: 1, sourceDigest: digest, taskColumns: ['user'], hasOracle: false },
      features: [
        ...encoded.map(({ feature }) => feature),
        ...(friends === null ? [] : [friends.feature]),
      ],
      labels: [{ loss: 'squared', segment: null, ...moments }],
      taskCount: tasks.length,
      taskCountBySplit: countsBySplit(tasks),
      rowCount: rows.reduce((sum, { rowCount }) => sum + rowCount, 0),
      ...{ rejectedRowCount: 0, files: [] },
    },
    digest,
    tasks: tasks.map(({ part, split, user, division, books, supportRowCount }, taskIndex) => ({
      ...{ taskIndex, key: `${part}/${user}/${division}`, split, supportRowCount },
      queryRowCount: books.length - supportRowCount,
      ...{ firstSeenTime: null, labelIndex: 0 },
    })),
    readTasks: (indices) => Promise.resolve(indices.map((index) => rowsAt(rows, index))),
    close: () => Promise.resolve(),
  };
}

/**
 * Numbers of books and users have fewer digits than this; a rating belongs to one user and one
 * book.
 */
const BOOK_NUMBERS = 1e6;

function logRowsOf({ user, books }: DbookTask): Float64Array {
  return Float64Array.from(books, (book) => Number(user) * BOOK_NUMBERS + book);
}

interface Friends {
  readonly feature: EncodedFeature;
  /** `[lengthMax]`, -1 in empty positions. */
  readonly idsOf: (user: string) => Int32Array;
}

/** A bag that also contains the user, so that friends share each other and their common friends. */
function friendsOf({ friends }: Dbook, tasks: readonly DbookTask[], friendsMax: number): Friends {
  const idOf = (user: string): number => 1 + Number(user);
  const users = new Set([...friends.keys(), ...tasks.map(({ user }) => user)]);
  const lengthMax = 1 + friendsMax;
  return {
    feature: {
      ...{ name: 'friends', kind: 'bag', lengthMax },
      rowCount: 1 + [...users].reduce((most, user) => Math.max(most, idOf(user)), 0),
      encoding: { by: 'dictionary' },
    },
    idsOf: (user) => {
      const ids = new Int32Array(lengthMax).fill(-1);
      ids.set([user, ...(friends.get(user) ?? [])].slice(0, lengthMax).map(idOf));
      return ids;
    },
  };
}

function repeated(ids: Int32Array, rowCount: number): Int32Array {
  return Int32Array.from({ length: rowCount * ids.length }, (_, at) => ids[at % ids.length] ?? -1);
}

function rowsAt(rows: readonly TaskRows[], index: number): TaskRows {
  const task = rows[index];
  if (task === undefined) throw new Error(`no task ${index}`);
  return task;
}

/** Ids, from 1, of the values with at least `countMin` ratings by training users. */
function idsIn(
  tasks: readonly DbookTask[],
  valueOf: ValueOf,
  countMin: number,
): Map<number, number> {
  const counts = new Map<number, number>();
  for (const task of tasks)
    if (task.split === 'train' && task.division === 0)
      for (const book of task.books) {
        const value = valueOf(task, book);
        counts.set(value, (counts.get(value) ?? 0) + 1);
      }
  counts.delete(0);
  const known = [...counts].filter(([, count]) => count >= countMin);
  return new Map(known.map(([value], place) => [value, place + 1]));
}

function countsBySplit(tasks: readonly DbookTask[]): Record<AdgroupSplit, number> {
  const countOf = (split: AdgroupSplit): number => tasks.filter((t) => t.split === split).length;
  return { train: countOf('train'), validation: countOf('validation'), test: countOf('test') };
}

function momentsOf(tasks: readonly DbookTask[]): { mean: number; deviation: number } {
  const ratings = tasks.filter(({ split }) => split === 'train').flatMap((task) => task.ratings);
  const mean = ratings.reduce((sum, r) => sum + r, 0) / ratings.length;
  const variance = ratings.reduce((sum, r) => sum + (r - mean) ** 2, 0) / ratings.length;
  return { mean, deviation: Math.sqrt(variance) };
}
