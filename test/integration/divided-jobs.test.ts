/** Training whose large jobs travel in parts: the same bits as with whole jobs, also when parts fail. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory/in-memory-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import { QianmoError } from '../../shared/base/errors.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor, JobInput } from '../../shared/queue/job-executor.js';
import { microBatchesOfWork } from '../../shared/queue/protocol.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/job/create-executor.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { logisticConfig, stateDigest, tinyRun } from '../fixtures/training/training-run.js';

const store = tinyTaskStore({
  ...{ bags: [{ rowCount: 9, lengthMax: 3 }], supportRowCountMax: 90, queryRowCountMax: 120 },
});
const training = {
  ...{ outerSteps: 6, tasksPerOuterStep: 12, tasksPerJob: 6, microBatchRowsMax: 700 },
  ...{ checkpointEveryOuterSteps: 6, weightDecay: 0.01, optimizer: { kind: 'adam', rate: 0.05 } },
};

let executor: LocalExecutor;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(store) });
});
afterAll(() => executor.close());

interface Scene {
  readonly executorCount: number;
  /** Called with each job before it is computed. */
  readonly onJob?: (input: JobInput) => void;
  /** Of the training section. */
  readonly departures?: object;
  readonly blobByteCountMax?: number;
  readonly method?: Record<string, unknown>;
}

/** Jobs tell that they took a second, so that dividing them is worth it. */
async function trained({ executorCount, onJob, departures = {}, method, ...limits }: Scene) {
  const travelled: JobInput[] = [];
  let outputByteCountMax = 0;
  const slow: JobExecutor = {
    execute: async (input, signal) => {
      travelled.push(input);
      onJob?.(input);
      const computed = await executor.execute(input, signal);
      outputByteCountMax = Math.max(outputByteCountMax, computed.output.byteLength);
      return { ...computed, computeMs: 1_000 };
    },
    close: () => Promise.resolve(),
  };
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const dispatcher = createInMemoryDispatcher({
    executors: Array.from({ length: executorCount }, () => slow),
    ...{ clock: instantClock(), attemptsMax: 2, sink },
  });
  const defaults = logisticConfig({ ...training, ...departures }, method);
  const config = { ...defaults, queue: { ...defaults.queue, ...limits } };
  const spec = modelSpecOf(config.model, store.manifest.features, config.method);
  const { options } = tinyRun(config, { dispatcher, sink, spec }, store);
  const { state } = await train(options);
  return { state, events, parts: travelled.filter(isPart), outputByteCountMax };
}

function isPart({ job }: JobInput): boolean {
  return microBatchesOfWork(job.work) !== undefined;
}

function reportsOf(events: readonly RunEvent[]) {
  return events.flatMap((event) => {
    if (event.kind !== 'outer-step') return [];
    const { tasksPerSecond: _, ...report } = event;
    return [report];
  });
}

test.each([
  ['synchronous', {}],
  ['with staleness', { staleness: { outerSteps: 1, drainEveryOuterSteps: 3 } }],
])('%s, it has the bits and the losses of whole jobs', async (_, departures) => {
  const whole = await trained({ executorCount: 1, departures });
  const divided = await trained({ executorCount: 4, departures });
  expect(whole.parts).toEqual([]);
  expect(divided.parts.length).toBeGreaterThan(6);
  expect(stateDigest(divided.state)).toEqual(stateDigest(whole.state));
  expect(reportsOf(divided.events)).toEqual(reportsOf(whole.events));
});

test.each<[string, Scene['method'], object]>([
  ['maml', { kind: 'maml', innerSteps: 1, innerRate: 0.2 }, {}],
  ['maml++', { kind: 'maml++', innerSteps: 2, innerRate: 0.2 }, {}],
  ['meta-sgd', { kind: 'meta-sgd', innerSteps: 2, innerRate: 0.2 }, {}],
  ['reptile', { kind: 'reptile', innerSteps: 2, innerRate: 0.2 }, {}],
  ['imaml', { kind: 'imaml', innerSteps: 2, innerRate: 0.2 }, {}],
  ['minibatches', { kind: 'fomaml', innerSteps: 2, innerRate: 0.2, supportBatches: 2 }, {}],
  ['a shift of the level', { kind: 'fomaml', innerSteps: 1, innerRate: 0.2, levelShift: true }, {}],
  ['global', { kind: 'global' }, {}],
  ['drawn rows', { kind: 'global' }, { rowsPerOuterStep: 1_400, taskWeight: 'examples' }],
  [
    'drawn rows and dropped ids',
    { kind: 'fomaml', innerSteps: 1, innerRate: 0.2 },
    { rowsPerOuterStep: 900, taskWeight: 'examples', idDropout: 0.2 },
  ],
])('%s has the same bits in parts', async (_, method, departures) => {
  const scene = { ...(method === undefined ? {} : { method }), departures };
  const divided = await trained({ ...scene, executorCount: 4 });
  const whole = await trained({ ...scene, executorCount: 1 });
  expect(divided.parts).not.toEqual([]);
  expect(stateDigest(divided.state)).toEqual(stateDigest(whole.state));
});

test('jobs travel whole where outer steps that overlap leave no worker idle', async () => {
  const executorCount = 2;
  const departures = { staleness: { outerSteps: 1, drainEveryOuterSteps: 3 } };
  expect((await trained({ executorCount })).parts).not.toEqual([]);
  expect((await trained({ executorCount, departures })).parts).toEqual([]);
});

test('jobs travel whole where a step may end without some of them, or gradients are rounded', async () => {
  const closing = { kind: 'quorum', share: 1, graceMs: 0 };
  const encodings = { gradients: 'float16' };
  for (const departures of [{ closing }, { encodings }])
    expect((await trained({ executorCount: 4, departures })).parts).toEqual([]);
});

test('jobs travel whole where the queue carries their gradients and not the larger ones of parts', async () => {
  const { outputByteCountMax: blobByteCountMax } = await trained({ executorCount: 1 });
  const divided = await trained({ executorCount: 4 });
  expect(divided.outputByteCountMax).toBeGreaterThan(blobByteCountMax);
  const carried = await trained({ executorCount: 4, blobByteCountMax });
  expect(carried.outputByteCountMax).toBe(blobByteCountMax);
});

test('a part that fails is computed again', async () => {
  const failed = new Set<number>();
  const divided = await trained({
    executorCount: 4,
    onJob: (input) => {
      const { outerStep } = input.job;
      if (!isPart(input) || failed.has(outerStep)) return;
      failed.add(outerStep);
      throw new QianmoError({ kind: 'transient', what: 'the first part of each step fails' });
    },
  });
  expect(failed.size).toBeGreaterThan(2);
  const whole = await trained({ executorCount: 1 });
  expect(stateDigest(divided.state)).toEqual(stateDigest(whole.state));
});

test('a poison task in a part is found and left out', async () => {
  const poison = 0;
  const departures = { poisonTasks: 'quarantine' };
  const onJob = ({ job }: JobInput): void => {
    if (job.outerStep < 2 || !('taskIndices' in job) || !job.taskIndices.includes(poison)) return;
    throw new QianmoError({ kind: 'transient', what: 'the task kills its worker' });
  };
  const scene = { departures, onJob };
  const divided = await trained({ ...scene, executorCount: 4 });
  const whole = await trained({ ...scene, executorCount: 1 });
  expect(divided.parts).not.toEqual([]);
  expect(divided.state.quarantinedTasks).toMatchObject([{ taskIndex: poison }]);
  expect(stateDigest(divided.state)).toEqual(stateDigest(whole.state));
});
