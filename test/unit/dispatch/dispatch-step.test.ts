/** A step over an in-memory queue: who takes a job, and what becomes of refused and failed ones. */

import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Admission, admissionRecord } from '../../../coordinator/dispatch/admission.js';
import { DispatchStep } from '../../../coordinator/dispatch/dispatch-step.js';
import type { JobOrder } from '../../../coordinator/dispatch/dispatcher.js';
import { createQueuePatience } from '../../../coordinator/dispatch/queue-patience.js';
import { BlobLeases } from '../../../coordinator/dispatch/step-blobs.js';
import { WorkerCount, WorkerHealth } from '../../../coordinator/dispatch/worker-health.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import type { JobProducer, JobRecord, WakeUp } from '../../../shared/queue/job-queue.js';
import {
  type CarriedJob,
  type Job,
  type LargeBlobs,
  PROTOCOL_VERSION,
} from '../../../shared/queue/protocol.js';
import { QueueUnavailableError } from '../../../shared/queue/queue-errors.js';
import { type BlobRef, blobRefOf, type BlobStore } from '../../../shared/storage/blob-store.js';
import { RunFencedError } from '../../../shared/storage/lease.js';
import { StorageConfigSchema } from '../../../shared/storage/open-object-store.js';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { expectFailureOf } from '../../fixtures/failures.js';
import { queueConfig } from '../../fixtures/queue/queue-under-test.js';
import { warningsOf } from '../../fixtures/told.js';

const FINGERPRINT = 'test-01234567';

/** The outcome of a delivery: a record of the queue, or a result of a worker. */
type Answer =
  | JobRecord
  /** The holder stalls, and another worker finds the job. */
  | { readonly state: 'stalled'; readonly holder: string }
  | {
      readonly state: 'done';
      readonly worker: string;
      readonly fingerprint?: string;
      /** The job is open when it is looked at first. */
      readonly isLate?: boolean;
      /** Where sums stay in the store, the last byte of those of this job. */
      readonly sum?: number;
    };

/** How a step departs from one job with one attempt. */
interface SceneDepartures {
  readonly blobs?: BlobStore;
  readonly orderCount?: number;
  readonly jobAttemptsMax?: number;
  readonly beat?: () => Promise<void>;
  /** Absent where all blobs lie beside the queue. */
  readonly largeBlobs?: LargeBlobs;
  /** All jobs have the same output. */
  readonly haveSameOutput?: boolean;
  /** All jobs leave their sums in the store. If they are joined, the last job adds those of the others. */
  readonly sums?: 'joined' | 'kept';
}

const keptSum = (jobIndex: number, sum: number): Uint8Array => Uint8Array.of(5, jobIndex, sum);

function ordersOf({ orderCount = 1, sums }: SceneDepartures): JobOrder[] {
  const orders = ordersForTest(orderCount);
  if (sums === undefined) return orders;
  const join = sums === 'joined' ? orders.pop() : undefined;
  const kept = orders.map((order) => {
    return { ...order, job: { ...order.job, keepsSums: true as const } };
  });
  if (join === undefined) return kept;
  const parts = orders.map((_, jobIndex) => ({ first: jobIndex, end: jobIndex + 1, jobIndex }));
  const work = { kind: 'join' as const, stepLeafCount: parts.length, nodes: [] };
  const job = { ...join.job, taskIndices: [], work };
  return [...kept, { ...join, job, rowPack: null, parts }];
}

/**
 * A step over a queue that answers each delivery at once.
 *
 * @param answerTo outcome of the delivery with this number, counted from 1 over the whole step
 */
function stepScene(
  answerTo: (deliveryNumber: number, job: CarriedJob) => Answer,
  connected: readonly string[],
  departures: SceneDepartures = {},
) {
  const { blobs = new MemoryBlobStore(), jobAttemptsMax = 1 } = departures;
  const { largeBlobs, haveSameOutput = false, beat = () => Promise.resolve() } = departures;
  const clock = instantClock();
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const health = new WorkerHealth({ clock, sink });
  const addedMs: number[] = [];
  const quarantined: [worker: string, durationMs: number][] = [];
  const demanded: (string | undefined)[] = [];
  const records = new Map<string, JobRecord>();
  /** The jobs whose records nobody has asked for, with their holders. */
  const unread = new Map<string, string | null>();
  let wake: WakeUp = () => undefined;
  const recordOf = async (answer: Answer, job: CarriedJob): Promise<JobRecord> => {
    if (answer.state === 'stalled')
      return { state: 'failed', reason: 'worker-lost: gone', worker: 'finder' };
    if (answer.state !== 'done') return answer;
    const { runId, outerStep, jobIndex } = job;
    return {
      state: 'completed',
      worker: answer.worker,
      returnValue: {
        ...{ protocolVersion: PROTOCOL_VERSION, runId, outerStep, jobIndex },
        output: await blobs.put(Uint8Array.of(9, haveSameOutput ? 0 : jobIndex, 0, 9)),
        ...{ taskCount: job.taskIndices.length, queryRowCount: 1 },
        ...(job.keepsSums === true
          ? { sums: { blob: await blobs.put(keptSum(jobIndex, answer.sum ?? 0)), isFinite: true } }
          : {}),
        ...{ computeMs: 1, worker: answer.worker, backend: 'test' },
        ...{ fingerprint: answer.fingerprint ?? FINGERPRINT },
      },
    };
  };
  const producer: Pick<
    JobProducer,
    'add' | 'quarantine' | 'read' | 'remove' | 'workers' | 'subscribe'
  > = {
    add: async (jobs) => {
      for (const { jobId, job } of jobs) {
        addedMs.push(clock.monotonicMs());
        demanded.push(job.fingerprint);
        const answer = answerTo(addedMs.length, job);
        records.set(jobId, await recordOf(answer, job));
        if (answer.state === 'done' && answer.isLate === true) unread.set(jobId, null);
        if (answer.state === 'stalled') unread.set(jobId, answer.holder);
        wake(jobId);
      }
    },
    quarantine: (worker, durationMs) => {
      quarantined.push([worker, durationMs]);
      return Promise.resolve();
    },
    read: (jobId) => {
      const holder = unread.get(jobId);
      const record = records.get(jobId) ?? { state: 'gone' };
      unread.delete(jobId);
      return Promise.resolve(holder === undefined ? record : { state: 'open', holder });
    },
    remove: () => Promise.resolve(),
    workers: () =>
      Promise.resolve(
        [...connected].map((name) => ({
          ...{ name, instance: name, device: 'cpu', sinceMs: 0, jobId: null, report: null },
        })),
      ),
    subscribe: (listener) => {
      wake = listener;
      return () => undefined;
    },
  };
  const results = () => {
    const orders = ordersOf(departures);
    const record = admissionRecord(sink, clock);
    const context = {
      // Members that a step does not call are missing.
      producer: producer as JobProducer,
      ...{
        epoch: 1,
        beat,
        blobs,
        leases: new BlobLeases(),
        health,
        clock,
        sink,
      },
      fingerprints: record.fingerprints,
      machines: { make: () => Promise.resolve() },
      counted: new WorkerCount(producer, clock),
      patience: createQueuePatience({ where: 'memory', clock, sink, refusalWaitMs: 1_000 }),
      largeBlobs,
      limits: queueConfig({ jobAttemptsMax }),
    };
    const step = new DispatchStep(context, {
      orders,
      admission: new Admission(orders, admitAll, record),
      signal: new AbortController().signal,
      attemptsMax: jobAttemptsMax,
      idSuffix: 'nonce',
    });
    return collected(step.results()).finally(() => step.close());
  };
  const warnings = (): string[] => warningsOf(events);
  return {
    ...{ results, clock, health, events, warnings, addedMs, quarantined, demanded },
  };
}

/** When a run without a healthy worker is given up. */
const NONE_HEALTHY_MS_MAX = 60_000;
/** Outputs have another length. */
const INPUT_BYTE_COUNT = 3;

const refused = (worker: string): JobRecord => ({
  state: 'failed',
  reason: 'refused: no GPU here',
  worker,
});

it('the inputs of a job are in another store than the queue before the job is there', async () => {
  class SlowBlobs extends MemoryBlobStore {
    readonly there = new Set<string>();
    override async put(...put: Parameters<MemoryBlobStore['put']>): Promise<BlobRef> {
      // Longer than any chain of promises of a step that does not wait.
      for (let turn = 0; turn < 20; turn += 1) await setImmediate();
      const ref = await super.put(...put);
      this.there.add(ref.sha256);
      return ref;
    }
  }
  const blobs = new SlowBlobs();
  const early: string[] = [];
  const storage = StorageConfigSchema.parse({});
  const { results } = stepScene(
    (_, { dense }) => {
      if (!blobs.there.has(dense.sha256)) early.push(dense.sha256);
      return { state: 'done', worker: 'w' };
    },
    ['w'],
    { blobs, largeBlobs: { address: '/blobs', byteCountMin: 1, storage }, orderCount: 3 },
  );
  await results();
  expect(early).toEqual([]);
});

// Seen to fail: a coordinator that stalled deleted the blobs of its successor, whose jobs then failed once.
it('a step that ends early deletes no blob of a coordinator that has taken over', async () => {
  class CountedBlobs extends MemoryBlobStore {
    deletedCount = 0;
    override delete(ref: BlobRef): Promise<void> {
      this.deletedCount += 1;
      return super.delete(ref);
    }
  }
  const deletedAfter = async (beat: () => Promise<void>): Promise<number> => {
    const blobs = new CountedBlobs();
    const failed = { state: 'failed', reason: 'broken', worker: 'w' } as const;
    const { results } = stepScene(() => failed, ['w'], { blobs, orderCount: 3, beat });
    await expect(results()).rejects.toThrow();
    return blobs.deletedCount;
  };
  expect(await deletedAfter(() => Promise.resolve())).toBeGreaterThan(0);
  const fenced = new RunFencedError('run');
  expect(await deletedAfter(() => Promise.reject(fenced))).toBe(0);
});

describe('a job that a worker refuses', () => {
  it('is done by another, after growing delays, without using an attempt and with one warning', async () => {
    const answerTo = (n: number): Answer =>
      n <= 20 ? refused('cpu') : { state: 'done', worker: 'gpu' };
    const { results, events, warnings, addedMs } = stepScene(answerTo, ['cpu', 'gpu']);
    expect((await results()).map(({ result }) => result.worker)).toEqual(['gpu']);
    const delaysMs = addedMs.slice(1).map((atMs, index) => atMs - (addedMs[index] ?? 0));
    expect(delaysMs.slice(0, 3)).toEqual([100, 200, 400]);
    expect(Math.max(...delaysMs)).toBe(5_000);
    expect(events.map(({ kind }) => kind)).toEqual([
      'worker-refused',
      'fingerprint-taken',
      'results-admitted',
    ]);
    expect(warnings()[0]).toBe(
      'worker cpu refuses the jobs of this run and leaves them to others: no GPU here',
    );
  });

  it('ends the run when only workers that refuse have been connected for long', async () => {
    const { results, clock, warnings } = stepScene(
      (n) => refused(n % 2 === 0 ? 'a' : 'b'),
      ['a', 'b'],
    );
    await expectFailureOf(results(), 'failed', {
      what: 'every connected worker refuses the jobs of this run',
      found: 'worker b: no GPU here; worker a: no GPU here',
    });
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(NONE_HEALTHY_MS_MAX);
    expect(clock.monotonicMs()).toBeLessThan(2 * NONE_HEALTHY_MS_MAX);
    expect(warnings()).toHaveLength(2);
  });
});

describe('a result with another fingerprint than the first', () => {
  const unlike = 'test-89abcdef';

  it('costs no attempt: the job goes to others, with the fingerprint that it must have', async () => {
    const answerTo = (n: number): Answer =>
      n === 2
        ? { state: 'done', worker: 'unlike', fingerprint: unlike }
        : { state: 'done', worker: 'first' };
    const { results, warnings, demanded } = stepScene(answerTo, ['first', 'unlike'], {
      orderCount: 3,
    });
    const found = await results();
    expect(found.map(({ result }) => result.fingerprint)).toEqual(Array(3).fill(FINGERPRINT));
    expect(demanded).toEqual([undefined, undefined, undefined, FINGERPRINT]);
    expect(warnings()).toHaveLength(1);
    expect(warnings()[0]).toMatch(
      new RegExp(`^worker unlike refuses .* fingerprint ${unlike}, .* computes on ${FINGERPRINT};`),
    );
  });
});

/** Notes deleted inputs. The first attempt fails, as it does while the server is away. */
class BlobsWithOutage extends MemoryBlobStore {
  readonly deleted: string[] = [];
  #hasFailed = false;

  override async delete(ref: BlobRef): Promise<void> {
    if (ref.byteCount !== INPUT_BYTE_COUNT) return super.delete(ref);
    if (!this.#hasFailed) {
      this.#hasFailed = true;
      throw new QueueUnavailableError({ what: 'no answer', found: 'connection refused' });
    }
    this.deleted.push(ref.sha256);
    await super.delete(ref);
  }
}

it('an outage while inputs are released: each is released once, and the dense blob stays until its last job is done', async () => {
  const blobs = new BlobsWithOutage();
  const answerTo = (): Answer => ({ state: 'done', worker: 'w' });
  const { results, events } = stepScene(answerTo, ['w'], { blobs, orderCount: 3 });
  expect(await results()).toHaveLength(3);
  // Nobody waits for deletions, so an outage that only they see is not reported.
  expect(warningsOf(events)).toEqual([]);
  // Three row packs and the dense blob, less the one whose deletion failed.
  expect(blobs.deleted).toHaveLength(3);
  expect(new Set(blobs.deleted).size).toBe(3);
});

const sick = (worker: string): JobRecord => ({
  ...{ state: 'failed', reason: 'sick: the disk is full', worker },
});
const failed = (worker: string): JobRecord => ({
  ...{ state: 'failed', reason: 'transient: the compute process ended', worker },
});

describe('a job on a sick machine', () => {
  it('is left to another without using an attempt; the worker is quarantined and named', async () => {
    const answerTo = (n: number): Answer => (n === 1 ? sick('a') : { state: 'done', worker: 'b' });
    const { results, events, quarantined } = stepScene(answerTo, ['a', 'b']);
    expect(await results()).toHaveLength(1);
    expect(quarantined).toEqual([['a', 5_000]]);
    expect(events.filter(({ kind }) => kind !== 'fingerprint-taken')).toEqual([
      {
        ...{ kind: 'worker-quarantined', quarantinedWorker: 'a' },
        ...{ reason: 'the disk is full', quarantineMs: 5_000 },
      },
    ]);
  });

  it('ends the run, resumable, when no healthy worker has been connected for long', async () => {
    const { results, clock } = stepScene((n) => sick(n % 2 === 0 ? 'a' : 'b'), ['a', 'b']);
    await expectFailureOf(results(), 'environment', {
      what: 'no connected worker is healthy',
      found: 'worker b: the disk is full; worker a: the disk is full',
      cure: /--resume/,
    });
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(NONE_HEALTHY_MS_MAX);
    expect(clock.monotonicMs()).toBeLessThan(2 * NONE_HEALTHY_MS_MAX);
  });
});

describe('a job that one worker fails', () => {
  // Seen to fail: a job that stalled was given up, for nobody knew who had held it.
  it.each([
    [failed('a'), 'the compute process ended'],
    [{ state: 'stalled', holder: 'a' } as const, 'gone: worker a'],
  ])(
    'is left to another one before it is given up, and the worker is quarantined',
    async (failure, why) => {
      const answerTo = (n: number): Answer => (n <= 3 ? failure : { state: 'done', worker: 'b' });
      const { results, quarantined, warnings } = stepScene(answerTo, ['a', 'b'], {
        jobAttemptsMax: 3,
      });
      expect(await results()).toHaveLength(1);
      expect(quarantined).toEqual([['a', 5_000]]);
      expect(warnings()).toEqual([
        `worker a is sick and takes no job for 5.0 s: it failed one job 3 times: ${why}`,
      ]);
    },
  );

  // Seen to fail: a worker that took the job again after its quarantine ended the run.
  it('is not given up as long as another one is healthy and has not tried it', async () => {
    const answerTo = (n: number): Answer =>
      n <= 8 ? { state: 'stalled', holder: 'a' } : { state: 'done', worker: 'b' };
    const { results } = stepScene(answerTo, ['a', 'b'], { jobAttemptsMax: 3 });
    expect(await results()).toHaveLength(1);
  });

  it.each([
    [failed, 'the compute process ended'],
    [(holder: string) => ({ state: 'stalled', holder }) as const, 'gone: worker b'],
  ])('is given up when another worker has confirmed the failure', async (failure, found) => {
    const answerTo = (n: number): Answer => failure(n <= 3 ? 'a' : 'b');
    const { results, addedMs } = stepScene(answerTo, ['a', 'b', 'c'], { jobAttemptsMax: 3 });
    await expect(results()).rejects.toMatchObject({
      report: { what: 'a job used up its attempts', found },
    });
    expect(addedMs).toHaveLength(4);
  });
});

it('two jobs with the same output leave nothing behind: the second is computed again, without using an attempt', async () => {
  const blobs = new MemoryBlobStore();
  const answerTo = (_: number, { jobIndex }: Pick<Job, 'jobIndex'>): Answer =>
    jobIndex === 0 ? { state: 'done', worker: 'a' } : { state: 'done', worker: 'b', isLate: true };
  const { results, warnings, addedMs } = stepScene(answerTo, ['a', 'b'], {
    ...{ blobs, orderCount: 2, haveSameOutput: true },
  });
  expect(await results()).toHaveLength(2);
  expect([addedMs.length, warnings()]).toEqual([3, []]);
  expect(await blobs.has(blobRefOf(Uint8Array.of(9, 0, 0, 9)))).toBe(false);
});

describe('a join', () => {
  const done = (worker: string, sum = 0): Answer => ({ state: 'done', worker, sum });
  /** The store loses the sums of the first job so many times, each time before the join reads them. */
  function sceneOf(lostCount: number, computed: (n: number, jobIndex: number) => Answer) {
    const blobs = new MemoryBlobStore();
    const added: string[][] = [];
    const answerTo = (n: number, { work, jobIndex }: CarriedJob): Answer => {
      if (work.kind !== 'join') return computed(n, jobIndex);
      added.push(work.nodes.map(({ sum }) => sum.sha256));
      if (added.length > lostCount) return done('a');
      for (const { sum } of work.nodes.slice(0, 1)) void blobs.delete(sum);
      return { state: 'failed', reason: 'blob-missing: gone', worker: 'a' };
    };
    const departures = { ...{ blobs, orderCount: 3, jobAttemptsMax: 3 }, sums: 'joined' as const };
    return { ...stepScene(answerTo, ['a', 'b', 'c'], departures), added };
  }

  // Seen to fail: it was sent again with the digest of the sums that are gone.
  it('adds the sums that were computed again, which may have another digest', async () => {
    const { results, added } = sceneOf(1, (n) => done('b', n > 3 ? 1 : 0));
    expect(await results()).toHaveLength(3);
    const digestsOf = (sums: readonly number[]): string[] =>
      sums.map((sum, jobIndex) => blobRefOf(keptSum(jobIndex, sum)).sha256);
    expect(added).toEqual([digestsOf([0, 0]), digestsOf([1, 0])]);
  });

  // Seen to fail: any job done absolved.
  it('does not absolve a worker that cannot compute', async () => {
    const { results, health } = sceneOf(0, (n) => (n === 1 ? sick('a') : done('b')));
    expect(await results()).toHaveLength(3);
    expect(health.isSick('a')).toBe(true);
  });

  // Seen to fail: after three losses, the worker was sick for one failure.
  it('whose sums are lost charges no failure of theirs again', async () => {
    const { results, quarantined } = sceneOf(4, (n, jobIndex) =>
      n === 1 ? failed('c') : done(jobIndex === 0 ? 'a' : 'b'),
    );
    expect(await results()).toHaveLength(3);
    expect(quarantined).toEqual([]);
  });
});

// Seen to fail: they stayed for the lifetime of blobs.
it('sums that no join adds are deleted when the step ends', async () => {
  const blobs = new MemoryBlobStore();
  const answerTo = (): Answer => ({ state: 'done', worker: 'w' });
  const { results } = stepScene(answerTo, ['w'], { blobs, orderCount: 2, sums: 'kept' });
  expect(await results()).toHaveLength(2);
  for (const jobIndex of [0, 1])
    expect(await blobs.has(blobRefOf(keptSum(jobIndex, 0)))).toBe(false);
});

describe('WorkerHealth', () => {
  const made = () => {
    const clock = instantClock();
    const events: RunEvent[] = [];
    const sut = new WorkerHealth({ clock, sink: (event) => void events.push(event) });
    const quarantines = (): [string, number][] => [...sut.takeQuarantines()];
    return { clock, events, sut, quarantines };
  };

  it('quarantines a sick worker for longer each time, and not while it is in quarantine', () => {
    const { clock, sut, quarantines } = made();
    const durationsMs = Array.from({ length: 6 }, () => {
      sut.sick('a', 'x');
      sut.sick('a', 'x');
      const [[, durationMs] = ['', 0], ...others] = quarantines();
      expect(others).toEqual([]);
      clock.advance(durationMs);
      return durationMs;
    });
    expect(durationsMs).toEqual([5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
    sut.didJob('a');
    sut.sick('a', 'x');
    expect(quarantines()).toEqual([['a', 5_000]]);
  });

  it.each([
    [4, false],
    [3, true],
  ])('with %i jobs done for each failure, sick is %s', (doneCount, isSick) => {
    const { sut } = made();
    let wasSick = false;
    for (let round = 0; round < 100; round += 1) {
      sut.charge('a', 'NaN');
      wasSick ||= sut.isSick('a');
      for (let done = 0; done < doneCount; done += 1) sut.didJob('a');
    }
    expect(wasSick).toBe(isSick);
  });
});
