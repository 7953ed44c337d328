/** Which results of an outer step are admitted, regardless of how they are delivered. */

import { describe, expect, it } from 'vitest';
import { Admission, admissionRecord } from '../../../coordinator/dispatch/admission.js';
import type {
  DeliveredResult,
  JobOrder,
  Rejection,
} from '../../../coordinator/dispatch/dispatcher.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { PROTOCOL_VERSION } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { ordersForTest } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

const OUTER_STEP = 4;
const orders = ordersForTest(2, OUTER_STEP);
const runId = orders[0]!.job.runId;

function deliveredOf(
  jobIndex: number,
  departures: Partial<DeliveredResult['result']> = {},
): DeliveredResult {
  const output = Uint8Array.of(jobIndex, 1);
  return {
    output,
    result: {
      ...{ protocolVersion: PROTOCOL_VERSION, runId, outerStep: OUTER_STEP, jobIndex },
      ...{ output: blobRefOf(output) },
      ...{ taskCount: 1, queryRowCount: 1, computeMs: 1, worker: 'w', backend: 'test' },
      ...{ fingerprint: 'test-01234567', microBatchRowsMax: 1 },
      ...departures,
    },
  };
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
  describe('tells of results', () => {
    const told = { kind: 'results-admitted', outerStep: OUTER_STEP, jobCount: 2 };

    it('every ten seconds', () => {
      const { sut, clock, events } = made();
      clock.advance(9_999);
      sut.judge(deliveredOf(1));
      expect(events.filter(({ kind }) => kind === told.kind)).toEqual([]);
      clock.advance(1);
      sut.judge(deliveredOf(0));
      expect(events.filter(({ kind }) => kind === told.kind)).toEqual([
        { ...told, admittedJobCount: 2 },
      ]);
    });

    it('at once after workers were missing', () => {
      const { sut, sink, events } = made();
      sink({ kind: 'workers-missing', openJobCount: 2 });
      sut.judge(deliveredOf(1));
      sut.judge(deliveredOf(0));
      expect(events.filter(({ kind }) => kind === told.kind)).toEqual([
        { ...told, admittedJobCount: 1 },
      ]);
    });
  });

  it('admits one result per job, in any order, with the content read from it', () => {
    const { sut, rejections } = made();
    expect(sut.openCount).toBe(2);
    expect(sut.judge(deliveredOf(1))).toMatchObject({ value: Uint8Array.of(1, 1) });
    expect(sut.openCount).toBe(1);
    expect(sut.judge(deliveredOf(1))).toBe('duplicate');
    expect(sut.judge(deliveredOf(0))).toMatchObject({ result: { jobIndex: 0 } });
    expect(sut.openCount).toBe(0);
    expect([...rejections]).toEqual([['duplicate', 1]]);
  });

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

  it('refuses a blob of another size, an empty one and another task count', () => {
    const { sut, reads } = made();
    const delivered = deliveredOf(0);
    const { result, output } = delivered;
    expect(sut.judge({ ...delivered, output: output.subarray(1) })).toBe('wrong_blob');
    const empty = new Uint8Array(0);
    const ofNothing = { ...result, output: blobRefOf(empty) };
    expect(sut.judge({ ...delivered, result: ofNothing, output: empty })).toBe('wrong_blob');
    expect(sut.judge(deliveredOf(0, { taskCount: 2 }))).toBe('layout_mismatch');
    expect(reads).toEqual([]);
  });

  it('keeps a job open when its result cannot be used, and counts the reason', () => {
    const answers = [new Uint8Array(1), 'not_finite', 'not_finite'] as const;
    const left = [...answers];
    const { sut, rejections } = made(() => left.pop()!);
    expect(sut.judge(deliveredOf(0))).toBe('not_finite');
    expect(sut.judge(deliveredOf(0))).toBe('not_finite');
    expect(sut.openCount).toBe(2);
    expect(sut.judge(deliveredOf(0))).toMatchObject({ value: new Uint8Array(1) });
    expect([...rejections]).toEqual([['not_finite', 2]]);
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
