import { describe, expect, it } from 'vitest';
import { fateOf, JobDelivery } from '../../../coordinator/dispatch/job-delivery.js';
import { assertFits } from '../../../coordinator/dispatch/dispatch-step.js';
import { JOB_FAILURE_KINDS } from '../../../shared/names/event-terms.js';
import { formatJobFailure, parseJobFailure } from '../../../shared/queue/queue-errors.js';
import { JOB_BYTE_COUNT_MAX } from '../../../shared/queue/protocol.js';
import { SIGNATURE_BYTE_COUNT } from '../../../shared/queue/signed-job-queue.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { ordersForTest } from '../../conformance/dispatcher.js';
import { jobResult } from '../../fixtures/job-result.js';

function delivery(): JobDelivery {
  const [order] = ordersForTest(1);
  if (order === undefined) throw new Error('no order');
  const ref = blobRefOf(order.dense);
  return new JobDelivery(order, { ...order.job, epoch: 1, dense: ref, rowPack: ref }, 'nonce-1');
}

describe('fateOf', () => {
  const { job } = delivery();

  it('reads why a job failed', () => {
    const fate = (reason: string) => fateOf({ state: 'failed', reason, worker: 'w' }, job);
    expect(fate('blob-missing: blob 12')).toEqual({ kind: 'lost', reason: 'blob 12' });
    expect(fate('permanent: malformed')).toEqual({ kind: 'hopeless', reason: 'malformed' });
    expect(fate('refused: protocol 2')).toEqual({
      kind: 'refused',
      reason: 'protocol 2',
      worker: 'w',
    });
    expect(fate('sick: the disk is full')).toEqual({
      ...{ kind: 'sick', reason: 'the disk is full', worker: 'w' },
    });
    expect(fate('transient: it ended')).toEqual({
      ...{ kind: 'failed', reason: 'it ended', worker: 'w' },
    });
    expect(fate('words of a library')).toMatchObject({ kind: 'failed', worker: 'w' });
  });

  it('does not blame the worker that found a job without its worker', () => {
    const reason = 'worker-lost: the worker that held the job is lost';
    expect(fateOf({ state: 'failed', reason, worker: 'finder' }, job)).toEqual({
      ...{ kind: 'worker-lost', reason: 'the worker that held the job is lost' },
    });
  });

  it('counts a result that does not parse as a failed attempt', () => {
    expect(fateOf({ state: 'completed', returnValue: { runId: 'r' }, worker: 'w' }, job)).toEqual({
      kind: 'failed',
      reason: 'its result cannot be read (at protocolVersion)',
      worker: 'w',
    });
    expect(fateOf({ state: 'completed', returnValue: null, worker: 'w' }, job).kind).toBe('failed');
  });
});

describe('fateOf of a finished job', () => {
  const { job } = delivery();
  const returnValue = jobResult({ ...job, output: job.dense });

  it.each([{ jobIndex: 1 }, { outerStep: 1 }, { runId: 'another-run' }])(
    'is a failed attempt when the result belongs to another job: %o',
    (other) => {
      const record = { state: 'completed', returnValue: { ...returnValue, ...other } } as const;
      const fate = fateOf({ ...record, worker: 'w' }, job);
      expect(fate).toEqual({
        kind: 'failed',
        reason: expect.stringContaining('of another job') as string,
        worker: 'w',
      });
    },
  );
});

it('JobDelivery fits the queue whatever its terms are, which name no worker whose name is too long', () => {
  const { job, where } = delivery();
  const largest = JOB_BYTE_COUNT_MAX - SIGNATURE_BYTE_COUNT;
  const emptyByteCount = Buffer.byteLength(JSON.stringify({ ...job, runId: '' }));
  const jobOfSize = (byteCount: number) => ({
    ...{ ...job, runId: 'x'.repeat(byteCount - emptyByteCount) },
    fingerprint: 'test-01234567',
  });
  expect(() => assertFits({ job: jobOfSize(largest), where })).not.toThrow();
  expect(() => assertFits({ job: jobOfSize(largest + 1), where })).toThrow('too large');
});

it('job failures as text survive a round trip', () => {
  for (const kind of JOB_FAILURE_KINDS) {
    const failure = { kind, reason: 'two\nlines: with a colon' };
    expect(parseJobFailure(formatJobFailure(failure))).toEqual(failure);
  }
});
