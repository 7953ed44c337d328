// Adgroups of one circle have one click rate, and each has a single support row, so a held-out
// adgroup can only be predicted from its neighbours. Whole training and prediction run in process.
// Seen to fail: merged preferences of 0.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { predictLogits } from '../../coordinator/evaluation/predict-logits.js';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import { randomStream } from '../../shared/base/random.js';
import type { TaskEntry, TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/job/create-executor.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { logisticConfig, tinyRun } from '../fixtures/training/training-run.js';

const CIRCLE_COUNT = 60;
/** Tasks of a circle; the last of them is held out. */
const TASKS_PER_CIRCLE = 6;
const QUERY_ROW_COUNT = 20;
const CLICK_RATES = [0.5, 0.05] as const;

/** Logloss of a predictor that knows the rate of each circle. */
const entropies = CLICK_RATES.map((q) => -q * Math.log(q) - (1 - q) * Math.log(1 - q));
const KNOWN_LOGLOSS = (entropies[0]! + entropies[1]!) / 2;

/** category0 is the user; each circle has one. */
function circles(): TaskStore {
  const taskCount = CIRCLE_COUNT * TASKS_PER_CIRCLE;
  const plain = tinyTaskStore({
    ...{ taskCount, categoryRowCounts: [CIRCLE_COUNT + 1] },
    ...{ supportRowCountMax: 1, queryRowCountMax: 1, numberCount: 0 },
  });
  const rowCount = 1 + QUERY_ROW_COUNT;
  const ofRows = (value: (row: number) => number): Float32Array =>
    Float32Array.from({ length: rowCount }, (_, row) => value(row));
  const rowsOf = (taskIndex: number): TaskRows => {
    const circle = Math.floor(taskIndex / TASKS_PER_CIRCLE);
    const stream = randomStream(7, 'circles', taskIndex);
    return {
      ...{ taskIndex, rowCount, supportRowCount: 1, bagIds: [], numbers: [], oracle: null },
      categoryIds: [new Int32Array(rowCount).fill(1 + circle)],
      clicks: ofRows(() => (stream.uniform() < CLICK_RATES[circle % 2]! ? 1 : 0)),
      impressions: ofRows(() => 1),
      times: new Float64Array(rowCount),
      logRows: Float64Array.from({ length: rowCount }, (_, row) => taskIndex * rowCount + row),
    };
  };
  const rows = Array.from({ length: taskCount }, (_, taskIndex) => rowsOf(taskIndex));
  return {
    ...{ ...plain, digest: 'circles' },
    tasks: plain.tasks.map((entry): TaskEntry => {
      const isHeldOut = entry.taskIndex % TASKS_PER_CIRCLE === TASKS_PER_CIRCLE - 1;
      const split = isHeldOut ? 'validation' : 'train';
      return { ...entry, split, supportRowCount: 1, queryRowCount: QUERY_ROW_COUNT };
    }),
    readTasks: (indices) => Promise.resolve(indices.map((index) => rows[index]!)),
  };
}

const store = circles();
let executor: LocalExecutor;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(store) });
});
afterAll(() => executor.close());

/** Logloss on the query rows of held-out tasks. */
async function heldOutLogloss(settings: object): Promise<number> {
  const config = logisticConfig(
    {
      ...{
        outerSteps: 200,
        tasksPerOuterStep: 50,
        checkpointEveryOuterSteps: 200,
      },
      optimizer: { kind: 'adam', rate: 0.05 },
      // Users stay unknown to the model.
      trainable: ['bias', 'preference', 'gate', ...('neighbours' in settings ? ['attention'] : [])],
    },
    { kind: 'paml-gate', innerSteps: 1, innerRate: 0.1, preferenceWidth: 4, ...settings },
  );
  const spec = modelSpecOf(config.model, store.manifest.features, config.method);
  const clock = instantClock();
  const dispatcher = createInMemoryDispatcher({
    ...{ executors: [executor], clock, attemptsMax: 1, sink: () => undefined },
  });
  const { options } = tinyRun(config, { dispatcher, spec }, store);
  const { state } = await train(options);
  const heldOut = store.tasks.filter(({ split }) => split === 'validation');
  let wave = 0;
  const { lossSums } = await predictLogits(
    {
      ...{ ...options.run, runId: 'held-out', dispatcher, signal: options.caller.signal },
      nextWave: () => wave++,
      ...{ onTasksDone: () => undefined, onBackend: () => undefined },
    },
    {
      ...{ parameters: state.metaParameters, method: config.method, role: 'query', keep: [] },
      taskIndices: heldOut.map(({ taskIndex }) => taskIndex),
      adaptations: [{ innerRate: 0.1, innerSteps: 1 }],
    },
  );
  const sum = lossSums[0]!.reduce((total, loss) => total + loss, 0);
  return sum / (heldOut.length * QUERY_ROW_COUNT);
}

test('the knowledge of neighbours is learned from them', async () => {
  const alone = await heldOutLogloss({});
  const beside = await heldOutLogloss({ neighbours: { feature: 'category0' } });
  expect(beside - KNOWN_LOGLOSS).toBeLessThan(0.6 * (alone - KNOWN_LOGLOSS));
});
