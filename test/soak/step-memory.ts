/**
 * `npm run check -- step-memory` shows whether the memory of a coordinator stays flat over outer steps on a real Redis,
 * however steps end. The worker is in the same process, so what it would keep counts too.
 *
 *   npm run check -- step-memory --steps 3000
 *
 * Exits 1 if memory grows by more than the bound: each job of an outer step has a record of about as many bytes.
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { z } from 'zod';
import { train } from '../../coordinator/training/outer-loop.js';
import { median } from '../../shared/base/arrays.js';
import { benchOptions } from '../bench/bench-options.js';
import { wholeNumber } from '../bench/option-values.js';
import { LEAF_IS_A_JOB, logisticExecutor } from '../fixtures/queue/logistic-executor.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
  workerInTest,
} from '../fixtures/queue/queue-under-test.js';
import { redisForTest } from '../fixtures/queue/redis-for-test.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { logisticConfig, tinyRun } from '../fixtures/training/training-run.js';

const GROWTH_BYTES_PER_STEP_MAX = 1_500;
/** Caches are full and code is compiled after the first of these parts; the second and the last are compared. */
const PART_COUNT = 4;
const SAMPLES_PER_PART = 8;
const STEPS_PER_CHECKPOINT = 10;

const { steps } = benchOptions(import.meta.url, {
  steps: { value: wholeNumber(100), default: '1000', about: 'outer steps of each run' },
});
const outerSteps = Math.ceil(steps / STEPS_PER_CHECKPOINT) * STEPS_PER_CHECKPOINT;
const sampleEverySteps = Math.floor(outerSteps / PART_COUNT / SAMPLES_PER_PART);
const overlap = { outerSteps: 1, drainEveryOuterSteps: STEPS_PER_CHECKPOINT };
const validated = { everyOuterSteps: STEPS_PER_CHECKPOINT, patience: outerSteps };

interface Rule {
  readonly ends: string;
  readonly training: Record<string, unknown>;
  readonly limits: Record<string, unknown>;
}

const RULES: readonly Rule[] = [
  { ends: 'when all sums are there', training: {}, limits: {} },
  { ends: 'while the next one computes', training: { staleness: overlap }, limits: {} },
  { ends: 'when workers have added', training: {}, limits: { joinedSumByteCountMin: 0 } },
  { ends: 'with its validation', training: { earlyStopping: validated }, limits: {} },
];

setFlagsFromString('--expose-gc');
const collectGarbage = z
  .custom<() => void>((found) => typeof found === 'function')
  .parse(runInNewContext('gc'));

const store = tinyTaskStore();
const redis = await redisForTest();
try {
  for (const rule of RULES) {
    const held = await measureHeldBytes(rule);
    const part = (place: number): number =>
      median(held.slice(place * SAMPLES_PER_PART, (place + 1) * SAMPLES_PER_PART));
    const grown = part(PART_COUNT - 1) - part(1);
    const perStep = grown / (sampleEverySteps * SAMPLES_PER_PART * (PART_COUNT - 2));
    const levels = [0, 1, 2, 3].map((place) => (part(place) / 1e6).toFixed(2)).join(', ');
    console.log(
      `an outer step ends ${rule.ends}: ${levels} MB in the quarters of ${outerSteps} steps, ${perStep.toFixed(0)} B per step`,
    );
    if (perStep > GROWTH_BYTES_PER_STEP_MAX) process.exitCode = 1;
  }
} finally {
  await redis.close();
}

/** The bytes in memory after garbage collections, in order of outer steps. */
async function measureHeldBytes({ training, limits }: Rule): Promise<number[]> {
  const queue = redisQueue(redis.url, '{step-memory}');
  const config = {
    ...logisticConfig({
      ...{ outerSteps, checkpointEveryOuterSteps: STEPS_PER_CHECKPOINT },
      ...{ tasksPerOuterStep: 8, leavesPerOuterStepMin: 8, ...training },
    }),
    queue: queueConfig({ prefix: '{step-memory}', ...limits }),
  };
  const worker = workerInTest(queue, logisticExecutor(store, LEAF_IS_A_JOB));
  const { dispatcher, events } = await dispatcherInTest(queue, config.queue, {
    runId: config.run,
  });
  const held: number[] = [];
  const departures = {
    dispatcher,
    checkpoints: {
      latest: () => Promise.resolve(null),
      write: () => Promise.resolve({ address: 'nowhere', digest: 'none' }),
    },
    sink: ({ kind, ...event }: Parameters<typeof events.push>[0]) => {
      if (kind !== 'outer-step' || !('outerStep' in event)) return;
      // The fixtures keep events.
      for (const kept of [events, worker.events]) kept.length = 0;
      if (event.outerStep % sampleEverySteps !== 0) return;
      collectGarbage();
      const { heapUsed, external } = process.memoryUsage();
      held.push(heapUsed + external);
    },
  };
  try {
    const { options } = tinyRun(config, departures, store);
    const validationLoss = () => Promise.resolve(1);
    await train('earlyStopping' in training ? { ...options, validationLoss } : options);
    return held;
  } finally {
    await dispatcher.close();
    await worker.stop();
  }
}
