/** A step over an in-memory queue: who takes a job, and what happens to a refused one. */

import { describe, expect, it } from 'vitest';
import { Admission } from '../../../coordinator/dispatch/admission.js';
import { BlobLeases } from '../../../coordinator/dispatch/blob-leases.js';
import { DispatchStep } from '../../../coordinator/dispatch/dispatch-step.js';
import { createQueuePatience } from '../../../coordinator/dispatch/queue-patience.js';
import { ONLY_REFUSING_MS_MAX, Refusals } from '../../../coordinator/dispatch/refusals.js';
import type { JobProducer, JobRecord, WakeUp } from '../../../shared/queue/job-queue.js';
import { QueueUnavailableError } from '../../../shared/queue/queue-errors.js';
import { PROTOCOL_VERSION, type Job } from '../../../shared/queue/protocol.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import { MemoryBlobStore } from '../../../shared/storage/memory-blob-store.js';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { queueConfig } from '../../fixtures/queue/queue-under-test.js';
import { warningsOf } from '../../fixtures/told.js';

/** Outputs have another length. */
const INPUT_BYTE_COUNT = 3;

type Answer = JobRecord | { readonly state: 'done'; readonly worker: string };

/** @param answerTo outcome of the delivery with this number, counted from 1 over the whole step */
function scene(
  answerTo: (deliveryNumber: number) => Answer,
  connected: readonly string[],
  { blobs = new MemoryBlobStore(), orderCount = 1 } = {},
) {
  const clock = instantClock();
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const refusals = new Refusals({ clock, sink });
  const delaysMs: number[] = [];
  const records = new Map<string, JobRecord>();
  let wake: WakeUp = () => undefined;
  const recordOf = async (answer: Answer, job: Job): Promise<JobRecord> => {
    if (answer.state !== 'done') return answer;
    const { runId, outerStep, jobIndex } = job;
    return {
      state: 'completed',
      returnValue: {
        ...{ protocolVersion: PROTOCOL_VERSION, runId, outerStep, jobIndex },
        output: await blobs.put(Uint8Array.of(9, jobIndex)),
        ...{ weightedQueryLoss: 0, weightedSupportLoss: 0, taskCount: 1, queryRowCount: 1 },
        ...{ computeMs: 1, worker: answer.worker, backend: 'test' },
      },
    };
  };
  const producer: Pick<JobProducer, 'add' | 'read' | 'remove' | 'beat' | 'workers' | 'subscribe'> =
    {
      add: async (jobs) => {
        for (const { jobId, job, delayMs } of jobs) {
          delaysMs.push(delayMs);
          clock.advance(delayMs);
          records.set(jobId, await recordOf(answerTo(delaysMs.length), job));
          wake(jobId);
        }
      },
      read: (jobId) => Promise.resolve(records.get(jobId) ?? { state: 'gone' }),
      remove: () => Promise.resolve(),
      beat: () => Promise.resolve(),
      workers: () =>
        Promise.resolve(
          connected.map((name) => ({
            name,
            instance: name,
            device: 'cpu',
            sinceMs: 0,
            jobId: null,
          })),
        ),
      subscribe: (listener) => {
        wake = listener;
        return () => undefined;
      },
    };
  const results = () => {
    const orders = ordersForTest(orderCount);
    const context = {
      // Members that a step does not call are missing.
      producer: producer as JobProducer,
      ...{ start: 'nonce', blobs, leases: new BlobLeases(), refusals, clock, sink },
      patience: createQueuePatience({ where: 'memory', clock, sink, refusalWaitMs: 1_000 }),
      limits: queueConfig({ jobAttemptsMax: 1 }),
    };
    const step = new DispatchStep(context, {
      orders,
      admission: new Admission(orders, admitAll, new Map()),
      signal: new AbortController().signal,
      idSuffix: 'nonce',
    });
    return collected(step.results());
  };
  const warnings = (): string[] => warningsOf(events);
  return { results, clock, events, warnings, delaysMs };
}

const refused = (worker: string): JobRecord => ({
  state: 'failed',
  reason: 'refused: no GPU here',
  worker,
});

describe('a job that a worker refuses', () => {
  it('is done by another, after growing delays, without using an attempt and with one warning', async () => {
    const answerTo = (n: number): Answer =>
      n <= 20 ? refused('cpu') : { state: 'done', worker: 'gpu' };
    const { results, events, warnings, delaysMs } = scene(answerTo, ['cpu', 'gpu']);
    expect((await results()).map(({ result }) => result.worker)).toEqual(['gpu']);
    expect(delaysMs.slice(0, 4)).toEqual([0, 100, 200, 400]);
    expect(Math.max(...delaysMs)).toBe(5_000);
    expect(events).toHaveLength(1);
    expect(warnings()[0]).toBe(
      'worker cpu refuses the jobs of this run and leaves them to others: no GPU here',
    );
  });

  it('ends the run when only workers that refuse have been connected for long', async () => {
    const { results, clock, warnings } = scene((n) => refused(n % 2 === 0 ? 'a' : 'b'), ['a', 'b']);
    await expect(results()).rejects.toMatchObject({
      kind: 'failed',
      report: {
        what: 'every connected worker refuses the jobs of this run',
        found: 'worker b: no GPU here; worker a: no GPU here',
      },
    });
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(ONLY_REFUSING_MS_MAX);
    expect(clock.monotonicMs()).toBeLessThan(2 * ONLY_REFUSING_MS_MAX);
    expect(warnings()).toHaveLength(2);
  });

  it('waits for a busy worker up to the limit of the step, and the failure names who refused', async () => {
    const { results, clock } = scene(() => refused('cpu'), ['cpu', 'busy']);
    await expect(results()).rejects.toMatchObject({
      kind: 'transient',
      report: { found: '1 jobs still open, refused by worker cpu: no GPU here' },
    });
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(900_000);
  });

  it('is done by the same worker once its fault is fixed', async () => {
    const answerTo = (n: number): Answer =>
      n <= 5 ? refused('one') : { state: 'done', worker: 'one' };
    const { results, warnings } = scene(answerTo, ['one']);
    for (let outerStep = 0; outerStep < 3; outerStep += 1) expect(await results()).toHaveLength(1);
    expect(warnings()).toHaveLength(1);
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

describe('an outage while inputs are released', () => {
  it('releases each input once: the dense blob stays until its last job is done', async () => {
    const blobs = new BlobsWithOutage();
    const answerTo = (): Answer => ({ state: 'done', worker: 'w' });
    const { results, events } = scene(answerTo, ['w'], { blobs, orderCount: 3 });
    expect(await results()).toHaveLength(3);
    expect(events.map(({ kind }) => kind)).toEqual(['redis-away', 'redis-back']);
    // Three row packs and the dense blob.
    expect(blobs.deleted).toHaveLength(4);
    expect(new Set(blobs.deleted).size).toBe(4);
  });
});

describe('Refusals', () => {
  const made = () => {
    const clock = instantClock();
    const events: RunEvent[] = [];
    return {
      clock,
      events,
      sut: new Refusals({ clock, sink: (event) => void events.push(event) }),
    };
  };

  it('count the time from when no other worker was left, and restart after a result', () => {
    const { clock, sut } = made();
    sut.note('a', 'x');
    expect(sut.judge(['a', 'b'])).toBe('wait');
    clock.advance(ONLY_REFUSING_MS_MAX);
    expect(sut.judge(['a'])).toBe('wait');
    clock.advance(ONLY_REFUSING_MS_MAX - 1);
    expect(sut.judge(['a'])).toBe('wait');
    sut.forgive('b');
    clock.advance(1);
    expect(sut.judge(['a'])).toBe('wait');
    clock.advance(ONLY_REFUSING_MS_MAX);
    expect(sut.judge(['a'])).toBe('give-up');
    expect(sut.judge([])).toBe('wait');
  });

  it('forget workers that left or do jobs, and are reported again only when they change', () => {
    const { events, sut } = made();
    sut.note('a', 'x');
    sut.note('a', 'x');
    expect(events).toHaveLength(1);
    sut.note('a', 'y');
    expect(events).toHaveLength(2);
    sut.forgive('a');
    expect([sut.isEmpty, sut.describe()]).toEqual([true, null]);
    sut.note('gone', 'x');
    expect(sut.judge([])).toBe('wait');
    expect(sut.isEmpty).toBe(false);
    sut.judge(['b']);
    expect(sut.isEmpty).toBe(true);
  });

  it('name only a few workers', () => {
    const { sut } = made();
    for (const worker of ['a', 'b', 'c', 'd', 'e']) sut.note(worker, 'x');
    expect(sut.describe()).toBe('worker a: x; worker b: x; worker c: x; and 2 more');
  });
});
