/** Which results of an outer step are admitted, regardless of how they are delivered. */

import { describe, expect, it } from 'vitest';
import { Admission, admissionRecord } from '../../../coordinator/dispatch/admission.js';
import type {
  DeliveredResult,
  JobOrder,
  Rejection,
} from '../../../coordinator/dispatch/dispatcher.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { ordersForTest } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { jobResult } from '../../fixtures/job-result.js';

const OUTER_STEP = 4;
const orders = ordersForTest(2, OUTER_STEP);
const runId = orders[0]!.job.runId;

function deliveredOf(
  jobIndex: number,
  departures: Partial<DeliveredResult['result']> = {},
): DeliveredResult {
  const output = Uint8Array.of(jobIndex, 1);
  const of = { runId, outerStep: OUTER_STEP, jobIndex, output: blobRefOf(output) };
  return { output, result: jobResult(of, departures) };
}

function made(
  read: (delivered: DeliveredResult) => Uint8Array | Rejection = (d) => d.output,
  ordered: readonly JobOrder[] = orders,
) {
  const events: RunEvent[] = [];
  const clock = instantClock();
  const record = admissionRecord((event) => void events.push(event), clock);
  const reads: number[] = [];
  const sut = new Admission(
    ordered,
    (delivered) => {
      reads.push(delivered.result.jobIndex);
      return read(delivered);
    },
    record,
  );
  return { sut, rejections: record.rejections, sink: record.sink, clock, reads, events };
}

describe('Admission', () => {
  it.each([
    ['another run', { runId: 'other' }],
    ['an outer step before', { outerStep: OUTER_STEP - 1 }],
    ['an outer step after', { outerStep: OUTER_STEP + 1 }],
    ['a job that was not sent', { jobIndex: 2 }],
  ])('refuses a result of %s without reading it', (_name, departure) => {
    const { sut, reads } = made();
    expect(sut.judge(deliveredOf(0, departure))).toBe('not_of_this_step');
    expect(reads).toEqual([]);
  });

  it('takes the fingerprint of the first result that it admits, and refuses every other', () => {
    const { sut, rejections, reads, events } = made();
    // A result that is refused decides nothing.
    expect(sut.judge(deliveredOf(7, { fingerprint: 'test-0000000a' }))).toBe('not_of_this_step');
    expect(sut.judge(deliveredOf(0, { fingerprint: 'test-0000000b' }))).toHaveProperty('value');
    expect(sut.judge(deliveredOf(1, { fingerprint: 'test-0000000a' }))).toBe('other_fingerprint');
    expect(sut.openCount).toBe(1);
    expect(sut.judge(deliveredOf(1, { fingerprint: 'test-0000000b' }))).toHaveProperty('value');
    expect(reads).toEqual([0, 1]);
    expect(rejections.get('other_fingerprint')).toBe(1);
    const refused = { kind: 'result-refused', outerStep: OUTER_STEP, fromWorker: 'w' };
    expect(events).toEqual([
      { ...refused, jobIndex: 7, rejection: 'not_of_this_step' },
      { kind: 'fingerprint-taken', fingerprint: 'test-0000000b', fromWorker: 'w' },
      { ...refused, jobIndex: 1, rejection: 'other_fingerprint' },
    ]);
  });

  it('admits only the fingerprint that a job demands', () => {
    const demanding = orders.map((order) => ({
      ...order,
      job: { ...order.job, fingerprint: 'test-0000000b' },
    }));
    const { sut } = made(undefined, demanding);
    expect(sut.judge(deliveredOf(0, { fingerprint: 'test-0000000a' }))).toBe('other_fingerprint');
    expect(sut.judge(deliveredOf(0, { fingerprint: 'test-0000000b' }))).toHaveProperty('value');
  });
});
