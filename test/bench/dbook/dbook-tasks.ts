/** dbook as tasks in the authors' protocol: the last 10 of a shuffle of a user's ratings are judged. */

import { randomStream } from '../../../shared/random.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TaskRows, TaskSplit, TaskStore } from '../../../shared/tasks/task-store.js';
import { SCENARIOS, type Dbook, type Scenario } from './dbook-files.js';

const QUERY_ROW_COUNT = 10;
/** Of the training users, to choose settings by. */
const VALIDATION_SHARE = 0.1;
/** Tasks made of each other training user, with a shuffle each, so that all ratings are learned. */
const TRAINING_DIVISION_COUNT = 3;

export interface DbookTask {
  readonly part: Scenario | 'training';
  readonly split: TaskSplit;
  readonly user: string;
  /** Of the user's tasks, from 0. */
  readonly division: number;
  /** In the order of the rows, support before query. */
  readonly books: readonly number[];
  readonly ratings: readonly number[];
  readonly supportRowCount: number;
}

export function tasksOfSeed(dbook: Dbook, seed: number): DbookTask[] {
  return (['training', ...SCENARIOS] as const).flatMap((part) =>
    dbook.tasksOf(part).flatMap((ratings) => {
      const isValidation =
        randomStream(seed, 'dbook validation', ratings.user).uniform() < VALIDATION_SHARE;
      const split = part !== 'training' ? 'test' : isValidation ? 'validation' : 'train';
      const count = split === 'train' ? TRAINING_DIVISION_COUNT : 1;
      return Array.from({ length: count }, (_, division): DbookTask => {
        const order = shuffled(ratings.books.length, seed, `${part} ${ratings.user} ${division}`);
        return {
          ...{ part, split, user: ratings.user, division },
          books: order.map((at) => ratings.books[at] ?? 0),
          ratings: order.map((at) => ratings.ratings[at] ?? 0),
          supportRowCount: order.length - QUERY_ROW_COUNT,
        };
      });
    }),
  );
}

function shuffled(count: number, seed: number, name: string): number[] {
  const stream = randomStream(seed, 'dbook', name);
  const order = Array.from({ length: count }, (_, place) => place);
  for (let place = count - 1; place > 0; place -= 1) {
    const other = stream.below(place + 1);
    [order[place], order[other]] = [order[other] ?? 0, order[place] ?? 0];
  }
  return order;
}

/** Ids of a feature's values in training rows, from 1 on; 0 for all others. */
function idsIn(
  tasks: readonly DbookTask[],
  valueOf: (book: number) => number,
): Map<number, number> {
  const ids = new Map<number, number>();
  for (const { split, books } of tasks)
    if (split === 'train')
      for (const book of books) {
        const value = valueOf(book);
        if (value !== 0 && !ids.has(value)) ids.set(value, ids.size + 1);
      }
  return ids;
}

/** The tasks as a store in memory: ratings are values, standardised by the training rows. */
export function storeOf(dbook: Dbook, tasks: readonly DbookTask[], digest: string): TaskStore {
  const valueOf: Readonly<Record<string, (book: number) => number>> = {
    book: (book) => book,
    publisher: (book) => dbook.publishers.get(book) ?? 0,
    author: (book) => dbook.authors.get(book) ?? 0,
    year: (book) => dbook.years.get(book) ?? 0,
  };
  const encoded = Object.entries(valueOf).map(([name, value]) => {
    const ids = idsIn(tasks, value);
    const feature: EncodedFeature = {
      ...{ name, kind: 'category', rowCount: ids.size + 1 },
      encoding: { by: 'dictionary' },
    };
    return { feature, idOf: (book: number) => ids.get(value(book)) ?? 0 };
  });
  const moments = momentsOf(tasks);
  const rows = tasks.map((task, taskIndex): TaskRows => {
    const rowCount = task.books.length;
    return {
      ...{ taskIndex, rowCount, supportRowCount: task.supportRowCount, loss: 'squared' },
      categoryIds: encoded.map(({ idOf }) => Int32Array.from(task.books, idOf)),
      ...{ bagIds: [], numbers: [], oracle: null },
      clicks: Float32Array.from(task.ratings, (r) => (r - moments.mean) / moments.deviation),
      impressions: new Float32Array(rowCount).fill(1),
      times: new Float64Array(rowCount),
      logRows: new Float64Array(rowCount),
    };
  });
  const countOf = (split: TaskSplit): number => tasks.filter((t) => t.split === split).length;
  return {
    manifest: {
      ...{ formatVersion: 1, sourceDigest: digest, taskColumns: ['user'], hasOracle: false },
      features: encoded.map(({ feature }) => feature),
      labels: [{ loss: 'squared', segment: null, ...moments }],
      taskCount: tasks.length,
      taskCountBySplit: {
        train: countOf('train'),
        validation: countOf('validation'),
        test: countOf('test'),
      },
      rowCount: rows.reduce((sum, { rowCount }) => sum + rowCount, 0),
      ...{ rejectedRowCount: 0, files: [] },
    },
    digest,
    tasks: tasks.map(({ part, split, user, division, books, supportRowCount }, taskIndex) => ({
      ...{ taskIndex, key: `${part}/${user}/${division}`, split, supportRowCount },
      queryRowCount: books.length - supportRowCount,
      ...{ firstSeenTime: null, labelIndex: 0 },
    })),
    readTasks: (indices) =>
      Promise.resolve(
        indices.map((index) => {
          const task = rows[index];
          if (task === undefined) throw new Error(`no task ${index}`);
          return task;
        }),
      ),
    close: () => Promise.resolve(),
  };
}

function momentsOf(tasks: readonly DbookTask[]): { mean: number; deviation: number } {
  const ratings = tasks.filter(({ split }) => split === 'train').flatMap((task) => task.ratings);
  const mean = ratings.reduce((sum, r) => sum + r, 0) / ratings.length;
  const variance = ratings.reduce((sum, r) => sum + (r - mean) ** 2, 0) / ratings.length;
  return { mean, deviation: Math.sqrt(variance) };
}
