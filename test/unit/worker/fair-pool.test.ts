/** Workers that serve several queues by weights, in virtual time and over queues in memory. */

import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import type { JobProducer } from '../../../shared/queue/job-queue.js';
import { MemoryJobQueue } from '../../../infra/simulation/memory-queue.js';
import { FairTurns, PrefixSharesSchema } from '../../../worker/carrying/executor-turns.js';
import { runWorker } from '../../../worker/carrying/work-loop.js';
import { jobOf } from '../../conformance/job-queue-scene.js';
import { simulatedClock } from '../../fixtures/clocks/simulated-clock.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';

const MINUTE_MS = 60_000;

describe('the turns', () => {
  it('go to the queue that had least time for its weight', () => {
    const turns = new FairTurns([3, 1]);
    const took: number[] = [];
    for (let job = 0; job < 8; job += 1) {
      const [place = 0] = turns.order();
      took.push(place);
      turns.end(place, turns.begin(place), 100);
    }
    // Passes: 0 0, 33 0, 33 100, 66 100, 100 100, 133 100, 133 200, 166 200, 200 200.
    expect(took).toEqual([0, 1, 0, 0, 0, 1, 0, 0]);
  });

  it('count time and not jobs', () => {
    const turns = new FairTurns([1, 1]);
    const counts = [0, 0];
    for (let job = 0; job < 110; job += 1) {
      const [place = 0] = turns.order();
      counts[place] = (counts[place] ?? 0) + 1;
      turns.end(place, turns.begin(place), place === 0 ? 10 : 100);
    }
    expect(counts).toEqual([100, 10]);
  });

  it('are not saved up by a queue that is empty for long', () => {
    const turns = new FairTurns([1, 1]);
    for (let job = 0; job < 1_000; job += 1) {
      turns.foundEmpty(1);
      turns.end(0, turns.begin(0), 100);
    }
    let inARow = 0;
    while (turns.order()[0] === 1) {
      turns.end(1, turns.begin(1), 100);
      inARow += 1;
    }
    // It catches up on 5 s of the 100 s.
    expect(inARow).toBeGreaterThanOrEqual(49);
    expect(inARow).toBeLessThanOrEqual(52);
  });

  it('charge nothing for a job that is handed back', () => {
    const turns = new FairTurns([1, 1]);
    turns.end(0, turns.begin(0), 100);
    turns.end(1, turns.begin(1), 100);
    turns.end(0, turns.begin(0), 0);
    expect(turns.order()).toEqual([0, 1]);
  });
});

interface TestRun {
  readonly weight: number;
  /** The number of jobs of an outer step; the next step begins when all have ended. */
  readonly jobsPerStep: number;
  readonly jobMs: () => number;
}

/** The compute time that each run got in a minute of a pool. */
async function computeMsOf(runs: readonly TestRun[], workerCount: number): Promise<number[]> {
  const clock = simulatedClock();
  const queues = runs.map(() => new MemoryJobQueue({ clock }));
  const computeMs = runs.map(() => 0);
  const stop = new AbortController();
  const shares = queues.map((queue, place) => ({ queue, weight: runs[place]?.weight ?? 1 }));
  const worker = (name: string): Promise<void> =>
    runWorker({
      ...{ queue: shares, name, nonce: name, clock, signal: stop.signal },
      executor: {
        execute: async (input, signal, onBegin) => {
          onBegin?.();
          const place = Number(input.job.runId.slice('run-'.length));
          const jobMs = runs[place]?.jobMs() ?? 0;
          await clock.sleep(jobMs, signal);
          computeMs[place] = (computeMs[place] ?? 0) + jobMs;
          return { ...raisedOutput({ job: input.job, rowPack: null }, 'test'), computeMs: jobMs };
        },
        close: () => Promise.resolve(),
      },
    });
  const coordinator = async (place: number, { jobsPerStep }: TestRun): Promise<void> => {
    const producer = await queues[place]!.openProducer('');
    const blobs = producer.blobs({ lifetimeMs: MINUTE_MS, blobByteCountMax: 1_000 });
    const dense = await blobs.put(Uint8Array.of(1, 2, 3));
    for (let step = 0; !stop.signal.aborted; step += 1) {
      const jobIds = Array.from({ length: jobsPerStep }, (_, index) => `j-${step}-${index}`);
      const jobs = jobIds.map((jobId, jobIndex) => {
        const { rowPack: _none, ...job } = jobOf(jobIndex, { runId: `run-${place}`, dense });
        return { jobId, job };
      });
      await producer.add(jobs);
      await ended(producer, jobIds, stop.signal);
    }
    await producer.close();
  };
  await clock.run(async () => {
    const workers = Array.from({ length: workerCount }, (_, index) => worker(`w${index}`));
    const coordinators = runs.map((run, place) => coordinator(place, run));
    await clock.sleep(MINUTE_MS);
    stop.abort();
    await Promise.all([...workers, ...coordinators]);
  });
  return computeMs;
}

/** Resolves when every job has ended, or the test has. */
function ended(
  producer: JobProducer,
  jobIds: readonly string[],
  stopped: AbortSignal,
): Promise<void> {
  const open = new Set(jobIds);
  return new Promise((resolve) => {
    const end = (): void => {
      unsubscribe();
      stopped.removeEventListener('abort', end);
      resolve();
    };
    const unsubscribe = producer.subscribe((jobId) => {
      open.delete(jobId);
      if (open.size === 0) end();
    });
    stopped.addEventListener('abort', end, { once: true });
  });
}

describe('a pool of four workers', () => {
  const stream = randomStream(1, 'fair pool');
  const upTo = (most: number) => () => 1 + stream.below(most);

  it.each([
    ['equal weights', [1, 1], [upTo(400), upTo(400)]],
    ['weights 3 and 1', [3, 1], [upTo(400), upTo(400)]],
    ['weights 1 and 4, jobs ten times as long', [1, 4], [upTo(2_000), upTo(200)]],
    ['three runs', [5, 3, 2], [upTo(200), upTo(800), upTo(400)]],
  ] as const)('is shared to 5 %%: %s', async (_, weights, durations) => {
    const runs = weights.map((weight, place) => ({
      ...{ weight, jobsPerStep: 2_000 },
      jobMs: durations[place] ?? upTo(400),
    }));
    const computed = await computeMsOf(runs, 4);
    const total = computed.reduce((sum, ms) => sum + ms, 0);
    const weightSum = weights.reduce<number>((sum, weight) => sum + weight, 0);
    for (const [place, ms] of computed.entries())
      expect(Math.abs(ms / total - (weights[place] ?? 0) / weightSum)).toBeLessThan(0.05);
    // No worker is idle for long while there is work.
    expect(total).toBeGreaterThan(0.9 * 4 * MINUTE_MS);
  });

  it('is used in full by one run while the other has no jobs', async () => {
    const busy = { weight: 1, jobsPerStep: 2_000, jobMs: upTo(400) };
    const [ms = 0] = await computeMsOf([busy, { ...busy, weight: 9, jobsPerStep: 0 }], 4);
    expect(ms).toBeGreaterThan(0.95 * 4 * MINUTE_MS);
  });
});

describe('prefixes with weights', () => {
  it('are read', () => {
    expect(PrefixSharesSchema.parse('{a}')).toEqual([{ prefix: '{a}', weight: 1 }]);
    expect(PrefixSharesSchema.parse('{a}=3, {b}=0.5')).toEqual([
      { prefix: '{a}', weight: 3 },
      { prefix: '{b}', weight: 0.5 },
    ]);
  });

  it.each(['', '{a}=', '{a}=0', '{a}=-1', '{a}=x', '{a}=1=2', '{a},{a}', '{a},', '{a}=1e9'])(
    'are refused: "%s"',
    (text) => {
      expect(PrefixSharesSchema.safeParse(text).success).toBe(false);
    },
  );
});
