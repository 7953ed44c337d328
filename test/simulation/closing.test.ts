/**
 * Outer steps that close without some of their jobs, or do not wait for stragglers, in virtual time: the production coordinator and workers over the
 * queue in memory, and a replay in one process that ends with the same bits.
 */

import { describe, expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { drawnJobs } from '../../coordinator/trust/drawn-jobs.js';
import { decodeLeftOut, encodeLeftOut } from '../../coordinator/checkpoints/left-out-leaves.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { TrainingOutcome, TrainOptions } from '../../coordinator/training/train-options.js';
import { randomStream } from '../../shared/base/random.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import { MemoryJobQueue } from '../../infra/simulation/queue/memory-job-queue.js';
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
const quorum = { kind: 'quorum', share: 0.5, graceMs: 200 };
const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });

/** How long a worker computes a job. */
type JobDuration = () => number;

class Pool {
  readonly clock: SimulatedClock = simulatedClock();
  readonly queue = new MemoryJobQueue({ clock: this.clock });
  readonly checkpoints = mapCheckpoints();
  readonly events: RunEvent[] = [];
  readonly #stop = new AbortController();
  #startCount = 0;
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

  async train(
    closing: Record<string, unknown>,
    departures: Partial<Pick<TrainOptions, 'stopAtOuterStep'>> & { resume?: boolean } = {},
    recomputeShare = 0,
  ): Promise<TrainingOutcome> {
    this.#startCount += 1;
    const { clock, queue, checkpoints } = this;
    const sink = (event: RunEvent): void => void this.events.push(event);
    const dispatcher = await createQueueDispatcher({
      ...{ queue, limits: this.#limits, runId: 'tiny-run', clock, sink },
      nonce: `start-${this.#startCount}`,
      recomputes: drawnJobs(1, recomputeShare),
    });
    try {
      const config = logisticConfig({ ...training, closing });
      const parts = { ...departures, checkpoints, clock, sink, dispatcher };
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
      execute: async (input, signal, onBegin) => {
        onBegin?.();
        await this.clock.sleep(duration(), signal);
        return inner.execute(input);
      },
      close: () => Promise.resolve(),
    };
  }
}

/** Repeats a run in one process, from its record alone. */
async function replayed({ state }: TrainingOutcome): Promise<TrainingOutcome> {
  const leftOut = decodeLeftOut(encodeLeftOut(state.leftOut ?? []), 'test');
  const { options } = tinyRun(logisticConfig({ ...training, closing: quorum }), {}, store);
  const replay = { outerSteps: state.outerStep, leftOut };
  return train({ ...options, start: { resume: false, replay } });
}

const undisturbed = (): Promise<TrainingOutcome> =>
  train(tinyRun(logisticConfig(training), {}, store).options);

describe('a quorum with a slow worker', () => {
  it('leaves jobs out, counts their late results, and is repeated bit for bit', async () => {
    const pool = new Pool();
    const outcome = await pool.run([() => 100, () => 100, () => 1_500], () => pool.train(quorum));
    const leftOut = outcome.state.leftOut ?? [];
    expect(leftOut.length).toBeGreaterThan(0);
    expect(pool.count('leaves-left-out')).toBe(leftOut.length);
    expect(pool.count('result-late')).toBeGreaterThan(0);
    const again = await replayed(outcome);
    expect(stateDigest(again.state)).toEqual(stateDigest(outcome.state));
    expect(again.state.leftOut).toEqual(leftOut);
    expect(stateDigest(outcome.state)).not.toEqual(stateDigest((await undisturbed()).state));
  });

  it.each(Array.from({ length: 10 }, (_, seed) => seed))(
    'is repeated bit for bit whatever the times and the stops: seed %i',
    async (seed) => {
      const stream = randomStream(seed, 'closing');
      const pool = new Pool();
      const durations = [10, 400, 4_000].map((most) => () => stream.below(most));
      const outcome = await pool.run(durations, async () => {
        await pool.train(quorum, { stopAtOuterStep: 7 });
        return pool.train({ kind: 'deadline', afterMs: 900, shareMin: 0.2 }, { resume: true });
      });
      const again = await replayed(outcome);
      expect(stateDigest(again.state)).toEqual(stateDigest(outcome.state));
      expect(again.state.leftOut).toEqual(outcome.state.leftOut);
    },
  );

  it('changes nothing while all results come in time, and all wait for the slowest', async () => {
    for (const [closing, slowestMs] of [
      [quorum, 100],
      [{ kind: 'deadline', afterMs: 30_000 }, 100],
      [{ kind: 'all' }, 3_000],
    ] as const) {
      const pool = new Pool();
      const outcome = await pool.run([() => 100, () => slowestMs], () => pool.train(closing));
      expect(outcome.state.leftOut).toBeUndefined();
      expect(stateDigest(outcome.state)).toEqual(stateDigest((await undisturbed()).state));
    }
  });
});

describe('copies of stragglers', () => {
  const slowly = [() => 100, () => 100, () => 6_000];

  it('keep a slow worker from holding up the others, and change no bit', async () => {
    const durationsMs: number[] = [];
    for (const queue of [{}, { backupAfterMultiple: 3 }]) {
      const pool = new Pool(queue);
      const outcome = await pool.run(slowly, () => pool.train({ kind: 'all' }));
      durationsMs.push(pool.clock.monotonicMs());
      expect(stateDigest(outcome.state)).toEqual(stateDigest((await undisturbed()).state));
      expect(pool.count('job-retried')).toBe(0);
      expect(pool.count('result-late') > 0).toBe('backupAfterMultiple' in queue);
      expect(pool.count('job-copied') > 0).toBe('backupAfterMultiple' in queue);
    }
    const [without = 0, withCopies = 0] = durationsMs;
    expect(withCopies).toBeLessThan(without / 2);
  });

  it.each(Array.from({ length: 10 }, (_, seed) => seed))(
    'change no bit whatever the times, with jobs that are computed twice: seed %i',
    async (seed) => {
      const stream = randomStream(seed, 'copies');
      const pool = new Pool({ backupAfterMultiple: 1, jobTimeoutMs: 9_000 });
      const durations = [10, 400, 4_000, 12_000].map((most) => () => stream.below(most));
      const outcome = await pool.run(durations, () => pool.train({ kind: 'all' }, {}, 0.3));
      expect(stateDigest(outcome.state)).toEqual(stateDigest((await undisturbed()).state));
    },
  );
});

describe('too few results', () => {
  const deadline = { kind: 'deadline', afterMs: 1_000, shareMin: 0.5 };

  it('are waited for once more, with the open jobs sent again', async () => {
    const pool = new Pool();
    let jobCount = 0;
    // The first jobs hang for longer than a deadline, all others take no time.
    const duration = (): number => ((jobCount += 1) <= 2 ? 1_500 : 1);
    const outcome = await pool.run([duration, duration], () => pool.train(deadline));
    expect(pool.count('job-retried')).toBeGreaterThan(0);
    expect(outcome.outerSteps).toBe(12);
    expect(stateDigest((await replayed(outcome)).state)).toEqual(stateDigest(outcome.state));
  });

  it('come from a lone slow worker, which computes what waits once', async () => {
    const pool = new Pool();
    const duration = (): number => 640;
    const outcome = await pool.run([duration], () => pool.train(deadline));
    expect(pool.count('job-retried')).toBeGreaterThan(0);
    expect(outcome.outerSteps).toBe(12);
    expect(stateDigest((await replayed(outcome)).state)).toEqual(stateDigest(outcome.state));
  });

  it('stop the run with the reason, and it can be resumed', async () => {
    const pool = new Pool();
    let jobMs = 1;
    const outcome = await pool.run([() => jobMs, () => jobMs], async () => {
      await pool.train(deadline, { stopAtOuterStep: 3 });
      jobMs = 10_000;
      await expect(pool.train(deadline, { resume: true })).rejects.toMatchObject({
        kind: 'transient',
        report: {
          what: expect.stringMatching(/although its jobs were sent twice/) as string,
          expected: 'results of 2 of 3 leaves, as training.closing asks',
          found: '0 of 3 jobs',
        },
      });
      jobMs = 1;
      return pool.train({ kind: 'all' }, { resume: true });
    });
    expect(stateDigest(outcome.state)).toEqual(stateDigest((await undisturbed()).state));
  });
});

describe('the record of left out leaves', () => {
  const steps = [
    { outerStep: 0, leaves: [1, 2] },
    { outerStep: 7, leaves: [0] },
  ];

  it('is read as it was written', () => {
    expect(decodeLeftOut(encodeLeftOut(steps), 'here')).toEqual(steps);
  });

  it.each([
    ['no JSON', 'steps'],
    ['another version', JSON.stringify({ formatVersion: 2, steps })],
    ['an unknown field', JSON.stringify({ formatVersion: 1, steps, more: 1 })],
    [
      'a step without leaves',
      JSON.stringify({ formatVersion: 1, steps: [{ outerStep: 0, leaves: [] }] }),
    ],
    ['steps that do not ascend', JSON.stringify({ formatVersion: 1, steps: [...steps].reverse() })],
    ['a step twice', JSON.stringify({ formatVersion: 1, steps: [steps[0], steps[0]] })],
    [
      'a negative leaf',
      JSON.stringify({ formatVersion: 1, steps: [{ outerStep: 0, leaves: [-1] }] }),
    ],
  ])('is refused with %s', (_, text) => {
    expect(() => decodeLeftOut(Buffer.from(text), 'here')).toThrow(
      expect.objectContaining({ kind: 'data' }) as Error,
    );
  });
});
