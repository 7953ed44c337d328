/**
 * Outer steps that do not wait for stragglers, in virtual time: the production coordinator and workers over the queue in
 * memory.
 */

import { describe, expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { TrainingOutcome } from '../../coordinator/training/train-options.js';
import { randomStream } from '../../shared/base/random.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import { MemoryJobQueue } from '../../infra/simulation/memory-queue.js';
import { runWorker } from '../../worker/carrying/work-loop.js';
import { simulatedClock, type SimulatedClock } from '../fixtures/clocks/simulated-clock.js';
import { LEAF_IS_A_JOB, logisticExecutor } from '../fixtures/queue/logistic-executor.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import {
  logisticConfig,
  mapCheckpoints,
  stateDigest,
  tinyRun,
} from '../fixtures/training/training-run.js';

const training = {
  outerSteps: 12,
  tasksPerOuterStep: 12,
  leavesPerOuterStepMin: 3,
  checkpointEveryOuterSteps: 5,
  taskWeight: 'examples',
  optimizer: { kind: 'adam', rate: 0.05 },
};
const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });

/** How long a worker computes a job. */
type JobDuration = () => number;

class Pool {
  readonly clock: SimulatedClock = simulatedClock();
  readonly queue = new MemoryJobQueue({ clock: this.clock });
  readonly checkpoints = mapCheckpoints();
  readonly events: RunEvent[] = [];
  readonly #stop = new AbortController();
  readonly #limits: QueueConfig;

  constructor(queue: Record<string, unknown> = {}) {
    this.#limits = queueConfig({ outerStepTimeoutMs: 60_000, ...queue });
  }

  run<Outcome>(durations: readonly JobDuration[], work: () => Promise<Outcome>): Promise<Outcome> {
    return this.clock.run(async () => {
      const workers = durations.map((duration, place) =>
        runWorker({
          ...{ queue: this.queue, name: `w${place}`, nonce: `w${place}`, clock: this.clock },
          executor: this.#executor(duration),
          signal: this.#stop.signal,
        }),
      );
      try {
        return await work();
      } finally {
        this.#stop.abort();
        await Promise.allSettled(workers);
      }
    });
  }

  async train(recomputeShare = 0): Promise<TrainingOutcome> {
    const { clock, queue, checkpoints } = this;
    const sink = (event: RunEvent): void => void this.events.push(event);
    const dispatcher = await createQueueDispatcher({
      ...{ queue, limits: this.#limits, runId: 'tiny-run', clock, sink },
      nonce: 'start',
      recomputed: { seed: 1, share: recomputeShare },
    });
    try {
      const config = logisticConfig(training);
      const parts = { checkpoints, clock, sink, dispatcher };
      return await train(tinyRun(config, parts, store).options);
    } finally {
      await dispatcher.close();
    }
  }

  count(kind: RunEvent['kind']): number {
    return this.events.filter((event) => event.kind === kind).length;
  }

  #executor(duration: JobDuration): JobExecutor {
    const inner = logisticExecutor(store, LEAF_IS_A_JOB);
    return {
      execute: async (input, signal) => {
        await this.clock.sleep(duration(), signal);
        return inner.execute(input);
      },
      close: () => Promise.resolve(),
    };
  }
}

const undisturbed = await train(tinyRun(logisticConfig(training), {}, store).options);

describe('copies of stragglers', () => {
  const slowly = [() => 100, () => 100, () => 6_000];

  it('keep a slow worker from holding up the others, and change no bit', async () => {
    const durationsMs: number[] = [];
    for (const queue of [{}, { backupAfterMultiple: 3 }]) {
      const pool = new Pool(queue);
      const outcome = await pool.run(slowly, () => pool.train());
      durationsMs.push(pool.clock.monotonicMs());
      expect(stateDigest(outcome.state)).toEqual(stateDigest(undisturbed.state));
      expect(pool.count('job-retried')).toBe(0);
      expect(pool.count('job-copied') > 0).toBe('backupAfterMultiple' in queue);
    }
    const [without = 0, withCopies = 0] = durationsMs;
    expect(withCopies).toBeLessThan(without / 2);
  });

  it.each(Array.from({ length: 4 }, (_, seed) => seed))(
    'change no bit whatever the times, with jobs that are computed twice: seed %i',
    async (seed) => {
      const stream = randomStream(seed, 'copies');
      const pool = new Pool({ backupAfterMultiple: 1, jobTimeoutMs: 9_000 });
      const durations = [10, 400, 4_000, 12_000].map((most) => () => stream.below(most));
      const outcome = await pool.run(durations, () => pool.train(0.3));
      expect(stateDigest(outcome.state)).toEqual(stateDigest(undisturbed.state));
    },
  );
});
