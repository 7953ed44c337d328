import { describe, expect, it } from 'vitest';
import { fateOf, JobDelivery } from '../../../coordinator/dispatch/job-delivery.js';
import { formatJobFailure, parseJobFailure } from '../../../shared/queue/job-failure.js';
import { PROTOCOL_VERSION, type JobResult } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { ordersForTest } from '../../conformance/dispatcher.js';

function delivery(): JobDelivery {
  const [order] = ordersForTest(1);
  if (order === undefined) throw new Error('no order');
  const ref = blobRefOf(order.dense);
  return new JobDelivery(order, { ...order.job, dense: ref, rowPack: ref }, 'nonce-1');
}

describe('fateOf', () => {
  const { job } = delivery();

  it('waits for an open job and reports a job that has vanished', () => {
    expect(fateOf({ state: 'open' }, job)).toEqual({ kind: 'open' });
    expect(fateOf({ state: 'gone' }, job).kind).toBe('lost');
  });

  it('reads why a job failed', () => {
    const fate = (reason: string) => fateOf({ state: 'failed', reason, worker: 'w' }, job);
    expect(fate('blob-missing: blob 12')).toEqual({ kind: 'lost', reason: 'blob 12' });
    expect(fate('permanent: malformed')).toEqual({ kind: 'hopeless', reason: 'malformed' });
    expect(fate('refused: protocol 2')).toEqual({
      kind: 'refused',
      reason: 'protocol 2',
      worker: 'w',
    });
    expect(fate('job stalled more than allowable limit')).toEqual({
      kind: 'failed',
      reason: 'job stalled more than allowable limit',
    });
  });

  it('counts a result that does not parse as a failed attempt', () => {
    expect(fateOf({ state: 'completed', returnValue: { runId: 'r' } }, job)).toEqual({
      kind: 'failed',
      reason: 'its result cannot be read (at protocolVersion)',
    });
    expect(fateOf({ state: 'completed', returnValue: null }, job).kind).toBe('failed');
  });
});

describe('fateOf of a finished job', () => {
  const { job } = delivery();
  const returnValue: JobResult = {
    protocolVersion: PROTOCOL_VERSION,
    runId: job.runId,
    outerStep: job.outerStep,
    jobIndex: job.jobIndex,
    output: job.dense,
    weightedQueryLoss: 0,
    weightedSupportLoss: 0,
    taskCount: 1,
    queryRowCount: 1,
    computeMs: 1,
    worker: 'w',
    backend: 'test',
  };

  it('is its result', () => {
    expect(fateOf({ state: 'completed', returnValue }, job)).toEqual({
      kind: 'result',
      result: returnValue,
    });
  });

  it.each([{ jobIndex: 1 }, { outerStep: 1 }, { runId: 'another-run' }])(
    'is a failed attempt when the result belongs to another job: %o',
    (other) => {
      const fate = fateOf({ state: 'completed', returnValue: { ...returnValue, ...other } }, job);
      expect(fate).toEqual({
        kind: 'failed',
        reason: expect.stringContaining('of another job') as string,
      });
    },
  );
});

describe('JobDelivery', () => {
  it('has a distinct id for each delivery, without a colon', () => {
    const sut = delivery();
    const first = sut.jobId;
    sut.deliverAgain();
    expect(sut.jobId).not.toBe(first);
    expect(`${first}${sut.jobId}`).not.toContain(':');
    expect(sut.jobId).toMatch(/-gradient-0-0-a2-nonce-1$/);
  });

  it('waits 0, 100, 200, 400 ms and never more than 5 s', () => {
    const sut = delivery();
    const delays = Array.from({ length: 40 }, () => {
      const { delayMs } = sut;
      sut.deliverAgain();
      return delayMs;
    });
    expect(delays.slice(0, 4)).toEqual([0, 100, 200, 400]);
    expect(Math.max(...delays)).toBe(5_000);
  });

  it('gives the cure when numbers are not finite: a retry gives the same numbers', () => {
    expect(() =>
      delivery().countFailure({ reason: 'its result was refused', rejection: 'not_finite' }, 1),
    ).toThrow(
      expect.objectContaining({
        report: expect.objectContaining({
          cure: expect.stringContaining('lower method.innerRate') as string,
        }) as object,
      }) as Error,
    );
  });

  it('fails at the last attempt, with the last reason', () => {
    const sut = delivery();
    sut.countFailure({ reason: 'first' }, 3);
    sut.countFailure({ reason: 'second' }, 3);
    expect(() => sut.countFailure({ reason: 'third' }, 3)).toThrow(
      expect.objectContaining({
        kind: 'failed',
        report: expect.objectContaining({ found: 'third' }) as object,
      }) as Error,
    );
  });
});

describe('job failures as text', () => {
  it('survive a round trip', () => {
    for (const kind of ['blob-missing', 'refused', 'permanent', 'transient'] as const) {
      const failure = { kind, reason: 'two\nlines: with a colon' };
      expect(parseJobFailure(formatJobFailure(failure))).toEqual(failure);
    }
  });

  it('are bounded', () => {
    const text = formatJobFailure({ kind: 'transient', reason: 'x'.repeat(100_000) });
    expect(text.length).toBeLessThan(2_100);
  });
});
