/**
 * The sinusoid tasks of Finn, Abbeel and Levine (ICML 2017, section 5.1): y = A sin(x - p) with A
 * in [0.1, 5], p in [0, pi], x in [-5, 5], all uniform. The store creates each task when it is
 * read.
 */

import { randomStream } from '../../../shared/base/random.js';
import type { StoreManifest } from '../../../shared/tasks/store-manifest.js';
import type {
  TaskEntry,
  TaskRows,
  TaskSplit,
  TaskStore,
} from '../../../shared/tasks/task-store.js';

/** K: support rows of each task; there are as many query rows. */
export const SHOT_COUNT = 10;

/** Query rows of the tasks that are only tested on. */
const TEST_QUERY_ROW_COUNT = 50;

interface SinusoidStoreOptions {
  readonly seed: number;
  readonly trainingTaskCount: number;
  readonly validationTaskCount: number;
  readonly testTaskCount: number;
}

export function sinusoidStore(options: SinusoidStoreOptions): TaskStore {
  const { seed, trainingTaskCount, validationTaskCount, testTaskCount } = options;
  const taskCountBySplit = {
    train: trainingTaskCount,
    validation: validationTaskCount,
    test: testTaskCount,
  };
  const tasks = (Object.entries(taskCountBySplit) as [TaskSplit, number][])
    .flatMap(([split, count]) => Array.from({ length: count }, () => split))
    .map((split, taskIndex): TaskEntry => ({
      taskIndex,
      key: `sinusoid${taskIndex}`,
      split,
      supportRowCount: SHOT_COUNT,
      queryRowCount: split === 'train' ? SHOT_COUNT : TEST_QUERY_ROW_COUNT,
      firstSeenTime: null,
      labelIndex: 0,
    }));
  const manifest: StoreManifest = {
    formatVersion: 1,
    sourceDigest: `sinusoid ${seed}`,
    features: [{ name: 'x', kind: 'number', scale: 'none', mean: 0, deviation: 1 }],
    taskColumns: ['task'],
    labels: [{ loss: 'squared', segment: null, mean: 0, deviation: 1 }],
    hasOracle: false,
    taskCount: tasks.length,
    taskCountBySplit,
    rowCount: tasks.reduce((sum, task) => sum + task.supportRowCount + task.queryRowCount, 0),
    rejectedRowCount: 0,
    files: [],
  };
  return {
    manifest,
    digest: JSON.stringify(options),
    tasks,
    readTasks: (indices) =>
      Promise.resolve(
        indices.map((index) => {
          const task = tasks[index];
          if (task === undefined) throw new Error(`no task ${index}`);
          return sinusoidTask(seed, task);
        }),
      ),
    close: () => Promise.resolve(),
  };
}

function sinusoidTask(seed: number, task: TaskEntry): TaskRows {
  const stream = randomStream(seed, 'sinusoid', task.taskIndex);
  const amplitude = 0.1 + 4.9 * stream.uniform();
  const phase = Math.PI * stream.uniform();
  const rowCount = task.supportRowCount + task.queryRowCount;
  const x = Float32Array.from({ length: rowCount }, () => -5 + 10 * stream.uniform());
  return {
    taskIndex: task.taskIndex,
    rowCount,
    supportRowCount: task.supportRowCount,
    loss: 'squared',
    categoryIds: [],
    bagIds: [],
    numbers: [x],
    clicks: x.map((value) => amplitude * Math.sin(value - phase)),
    impressions: new Float32Array(rowCount).fill(1),
    oracle: null,
    times: new Float64Array(rowCount),
    logRows: Float64Array.from({ length: rowCount }, (_, row) => row),
  };
}
