/** Which jobs get a copy, and which of two deliveries decides. */

import { describe, expect, it } from 'vitest';
import { BackupCopies, JobDurations } from '../../../coordinator/dispatch/backup-copies.js';
import { fateOf, JobDelivery, type ReadJob } from '../../../coordinator/dispatch/job-delivery.js';
import { WorkerHealth } from '../../../coordinator/dispatch/worker-health.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import type { JobRecord } from '../../../shared/queue/job-queue.js';
import { type Job, PROTOCOL_VERSION } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { ordersForTest } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

const USUAL_MS = 1_000;
const MULTIPLE = 3;
const STRAGGLER_MS = USUAL_MS * MULTIPLE;

/** A step whose jobs are all on the queue; each worker has the job of its place. */
function scene(jobCount: number, { multiple = MULTIPLE, knownCount = 8 } = {}) {
  const clock = instantClock();
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const health = new WorkerHealth({ clock, sink });
  const durations = new JobDurations();
  const deliveries = ordersForTest(jobCount).map((order) => {
    const ref = blobRefOf(order.dense);
    return new JobDelivery(order, { ...order.job, epoch: 1, dense: ref, rowPack: ref }, 'nonce');
  });
  for (const delivery of deliveries.slice(0, 1))
    for (let count = 0; count < knownCount; count += 1)
      durations.note(delivery.job, { computeMs: USUAL_MS });
  const open = new Map(deliveries.map((delivery) => [delivery.jobId, delivery]));
  const limits = { backupAfterMultiple: multiple };
  const sut = new BackupCopies({ limits, durations, health, clock, sink }, open);
  /** The workers of the pool, with the jobs that they have said to hold. */
  const pool = new Map<string, string | null>();
  const heldBack = new Set<JobDelivery>();
  const read = (delivery: JobDelivery, record: JobRecord, jobId = delivery.jobId): boolean => {
    const job: ReadJob = { jobId, delivery, fate: fateOf(record, delivery.job), output: null };
    return sut.decides(job);
  };
  const hold = (): void => {
    for (const [place, delivery] of deliveries.entries()) {
      pool.set(`w${place}`, delivery.jobId);
      if (!heldBack.has(delivery)) read(delivery, { state: 'open', holder: `w${place}` });
    }
  };
  const begin = () =>
    sut.begin({
      workers: () =>
        Promise.resolve(
          [...pool].map(([name, jobId]) => ({
            ...{ name, instance: name, device: 'cpu', sinceMs: 0, jobId, report: null },
          })),
        ),
      termsOf: () => ({ fingerprint: null, notBy: ['liar'] }),
      isHeldBack: (delivery) => heldBack.has(delivery),
    });
  return {
    sut,
    clock,
    events,
    health,
    deliveries,
    open,
    pool,
    heldBack,
    read,
    hold,
    begin,
  };
}

type Scene = ReturnType<typeof scene>;

function deliveryOf({ deliveries }: Scene, place = 0): JobDelivery {
  const delivery = deliveries[place];
  if (delivery === undefined) throw new Error(`the step has no job ${place}`);
  return delivery;
}

/** A step whose only job has a copy. */
async function copied(): Promise<{ made: Scene; delivery: JobDelivery; ids: [string, string] }> {
  const made = scene(1);
  made.pool.set('idle', null);
  made.hold();
  made.clock.advance(STRAGGLER_MS);
  made.hold();
  const delivery = deliveryOf(made);
  const [copy] = await made.begin();
  if (copy === undefined) throw new Error('the straggler has no copy');
  return { made, delivery, ids: [delivery.jobId, copy.jobId] };
}

function completed({ job: { runId, outerStep, jobIndex } }: JobDelivery): JobRecord {
  const returnValue = {
    ...{ protocolVersion: PROTOCOL_VERSION, runId, outerStep, jobIndex },
    output: blobRefOf(Uint8Array.of(9)),
    ...{ taskCount: 1, queryRowCount: 1 },
    ...{ computeMs: 1, worker: 'idle', backend: 'test', fingerprint: 'test-01234567' },
  };
  return { state: 'completed', worker: 'idle', returnValue };
}

describe('a copy of a straggler', () => {
  it('is sent when its worker has had it for the multiple of the usual time, to any other worker', async () => {
    const made = scene(1);
    made.pool.set('idle', null);
    made.hold();
    expect(await made.begin()).toEqual([]);
    made.clock.advance(STRAGGLER_MS - 1);
    made.hold();
    expect(await made.begin()).toEqual([]);
    made.clock.advance(1);
    made.hold();
    const copies = await made.begin();
    const delivery = deliveryOf(made);
    expect(copies.map(({ jobId, job }) => [jobId, job.notBy])).toEqual([
      [delivery.copyId, ['w0', 'liar']],
    ]);
    expect(delivery.copyId).not.toBe(delivery.jobId);
    expect([...made.open.keys()]).toEqual([delivery.jobId, delivery.copyId]);
    expect(made.events).toEqual([
      {
        ...{ kind: 'job-copied', outerStep: 0, jobIndex: 0, slowWorker: 'w0' },
        heldMs: STRAGGLER_MS,
      },
    ]);
  });

  it('is not sent before a second, however short jobs are', async () => {
    const made = scene(1, { multiple: 1, knownCount: 0 });
    const short = new JobDurations();
    for (let count = 0; count < 8; count += 1) short.note(deliveryOf(made).job, { computeMs: 1 });
    expect(short.usualMs(deliveryOf(made).job)).toBe(1);
    const sut = new BackupCopies(
      {
        ...{ limits: { backupAfterMultiple: 1 }, durations: short, health: made.health },
        ...{ clock: made.clock, sink: () => undefined },
      },
      made.open,
    );
    const terms = {
      workers: () =>
        Promise.resolve([
          { name: 'idle', instance: 'i', device: 'cpu', sinceMs: 0, jobId: null, report: null },
        ]),
      termsOf: () => ({ fingerprint: null, notBy: [] }),
      isHeldBack: () => false,
    };
    const read = { jobId: deliveryOf(made).jobId, delivery: deliveryOf(made), output: null };
    const look = () => sut.decides({ ...read, fate: { kind: 'open', holder: 'w0' } });
    look();
    made.clock.advance(999);
    look();
    expect(await sut.begin(terms)).toHaveLength(0);
    made.clock.advance(1);
    look();
    expect(await sut.begin(terms)).toHaveLength(1);
  });

  it.each<[string, (made: Scene) => void, Parameters<typeof scene>[1]?]>([
    ['too few durations are known', () => undefined, { knownCount: 3 }],
    ['no worker is idle', ({ pool }) => pool.set('idle', 'a job of another run')],
    ['no other worker is there', ({ pool }) => pool.delete('idle')],
    ['the idle worker is sick', ({ health }) => health.sick('idle', 'x')],
    [
      'the only worker that says that it is idle has just taken a job of the step',
      ({ pool }) => {
        pool.delete('idle');
        pool.set('w1', null);
      },
    ],
  ])('is not sent when %s', async (_, change, departures) => {
    const made = scene(2, departures);
    made.pool.set('idle', null);
    made.hold();
    made.clock.advance(STRAGGLER_MS);
    made.hold();
    change(made);
    expect(await made.begin()).toEqual([]);
  });

  it('is not sent while another job of the step waits on the queue; one that is held back does not', async () => {
    const made = scene(2);
    made.pool.set('idle', null);
    const [first, second] = [deliveryOf(made), deliveryOf(made, 1)];
    made.read(first, { state: 'open', holder: 'w0' });
    made.read(second, { state: 'open', holder: null });
    made.clock.advance(STRAGGLER_MS);
    made.read(second, { state: 'open', holder: null });
    expect(await made.begin()).toEqual([]);
    made.heldBack.add(second);
    made.read(first, { state: 'open', holder: 'w0' });
    expect(await made.begin()).toHaveLength(1);
  });

  it('is one for each idle worker, first of the jobs that are late for longest', async () => {
    const made = scene(3);
    made.pool.set('idle', null);
    for (const place of [2, 0, 1]) {
      made.read(deliveryOf(made, place), { state: 'open', holder: `w${place}` });
      made.clock.advance(1);
    }
    made.clock.advance(STRAGGLER_MS);
    made.hold();
    expect((await made.begin()).map(({ job }) => job.jobIndex)).toEqual([2]);
    // The copy is on the queue until somebody takes it.
    made.hold();
    expect(await made.begin()).toEqual([]);
    made.read(
      deliveryOf(made, 2),
      { state: 'open', holder: 'idle' },
      deliveryOf(made, 2).copyId ?? '',
    );
    made.pool.set('another', null);
    expect((await made.begin()).map(({ job }) => job.jobIndex)).toEqual([0]);
  });

  it('restarts its count when another worker takes the job', async () => {
    const made = scene(1);
    made.pool.set('idle', null);
    made.hold();
    made.clock.advance(STRAGGLER_MS);
    made.read(deliveryOf(made), { state: 'open', holder: 'another' });
    expect(await made.begin()).toEqual([]);
  });
});

describe('of two deliveries of a job', () => {
  it.each([
    ['the copy', 1, 0],
    ['the earlier one', 0, 1],
  ] as const)('the one with the first result decides: %s', async (_, first, second) => {
    const { made, delivery, ids } = await copied();
    expect(made.read(delivery, { state: 'open', holder: 'idle' }, ids[second])).toBe(false);
    expect(made.read(delivery, completed(delivery), ids[first])).toBe(true);
    expect([delivery.jobId, delivery.copyId]).toEqual([ids[first], ids[second]]);
    made.sut.end(delivery);
    expect([delivery.copyId, made.sut.superfluousIds]).toEqual([null, [ids[second]]]);
    expect(made.read(delivery, completed(delivery), ids[second])).toBe(false);
  });

  it.each([
    ['the copy', 1, 0],
    ['the earlier one', 0, 1],
  ] as const)(
    'the one that fails is judged, and the other one stays: %s',
    async (_, fails, stays) => {
      const { made, delivery, ids } = await copied();
      const failed: JobRecord = { state: 'failed', reason: 'transient: so', worker: 'idle' };
      delivery.sentMs = 7;
      expect(made.read(delivery, failed, ids[fails])).toBe(true);
      expect(delivery.jobId).toBe(ids[fails]);
      expect(delivery.takeCopy()).toBe(true);
      expect([delivery.jobId, delivery.copyId]).toEqual([ids[stays], null]);
      expect(delivery.sentMs).toBe(stays === 0 ? 7 : STRAGGLER_MS);
      expect(delivery.takeCopy()).toBe(false);
    },
  );

  it('the second is sent three times at most', async () => {
    const { made, delivery } = await copied();
    let copyCount = 1;
    for (let look = 0; look < 6; look += 1) {
      const { copyId } = delivery;
      if (copyId !== null) {
        made.read(delivery, { state: 'gone' }, copyId);
        made.open.delete(copyId);
        delivery.takeCopy();
      }
      made.pool.set(`fresh${look}`, null);
      made.hold();
      copyCount += (await made.begin()).length;
    }
    expect(copyCount).toBe(3);
  });
});

describe('JobDurations', () => {
  const [order] = ordersForTest(1);
  if (order === undefined) throw new Error('no order');
  const { job } = order;
  const other: Pick<Job, 'work'> = {
    work: { kind: 'predict', method: { kind: 'global' }, adaptations: [], rows: 'query' },
  };

  it('gives the 0.9 quantile of the latest 256 of a kind', () => {
    const sut = new JobDurations();
    for (let count = 0; count < 3; count += 1) sut.note(job, { computeMs: 10_000 });
    expect(sut.usualMs(job)).toBe(Number.POSITIVE_INFINITY);
    sut.note(job, { computeMs: 10_000 });
    expect(sut.usualMs(job)).toBe(10_000);
    for (let computeMs = 1; computeMs <= 256; computeMs += 1) sut.note(job, { computeMs });
    expect(sut.usualMs(job)).toBe(231);
    expect(sut.usualMs(other)).toBe(Number.POSITIVE_INFINITY);
  });
});
