import { describe, expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { JobResultSchema } from '../../../shared/queue/protocol.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';
import {
  carryJob,
  ExecutorStuckError,
  fetchJob,
  InputCache,
  type JobCarrier,
} from '../../../worker/carrying/carry-job.js';
import { jobLimitsOf } from '../../../worker/carrying/job-limits.js';
import { executorForTest, ordersForTest, outputOf } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';

const going = new AbortController().signal;

async function scene(executor: JobExecutor = executorForTest()) {
  const blobs = new MemoryBlobStore();
  const [order] = ordersForTest(1);
  if (order === undefined) throw new Error('no order');
  const job = {
    ...order.job,
    epoch: 1,
    timeoutMs: 1_000,
    dense: await blobs.put(order.dense),
    rowPack: await blobs.put(order.rowPack ?? new Uint8Array()),
  };
  const carrier = {
    blobsOf: () => blobs,
    sharedInputs: new InputCache(1_000),
    executor,
    clock: instantClock(),
    workerName: 'w',
    onTrouble: () => undefined,
  };
  return { blobs, job, carrier };
}

const carried = async (data: unknown, carrier: JobCarrier, signal: AbortSignal) =>
  carryJob(await fetchJob(data, carrier, signal), carrier, signal);

const executing = (execute: JobExecutor['execute']): JobExecutor => ({
  execute,
  close: () => Promise.resolve(),
});

describe('carryJob', () => {
  it('returns a record that names the output', async () => {
    const { blobs, job, carrier } = await scene();
    // The clock runs ahead of any work, so the deadline must not pass.
    const result = await carried(job, { ...carrier, clock: patientClock() }, going);
    expect(JobResultSchema.parse(result)).toMatchObject({ jobIndex: 0, worker: 'w' });
    expect([...(await blobs.get(result.output))]).toEqual([0, 2, 1]);
  });

  it('accepts a job that was serialised as JSON', async () => {
    const { job, carrier } = await scene();
    const crossed: unknown = JSON.parse(JSON.stringify(job));
    const result = await carried(crossed, { ...carrier, clock: patientClock() }, going);
    expect(result.runId).toBe(job.runId);
  });

  it.each([
    ['another protocol', { protocolVersion: 2 }, 'refused', /protocol \d+, the job protocol 2/],
    ['an unknown field', { extra: 1 }, 'permanent', /malformed/],
    ['no tasks', { taskIndices: [] }, 'permanent', /malformed at taskIndices/],
  ])('does not do a job with %s', async (_, part, kind, reason) => {
    const executor = executorForTest();
    const { job, carrier } = await scene(executor);
    await expect(carried({ ...job, ...part }, carrier, going)).rejects.toMatchObject({
      failure: { kind, reason: expect.stringMatching(reason) as string },
    });
    expect(executor.calls).toHaveLength(0);
  });

  it.each([null, 'text', 7, {}])('does not do %j', async (data) => {
    const { carrier } = await scene();
    await expect(carried(data, carrier, going)).rejects.toMatchObject({
      failure: { kind: 'permanent' },
    });
  });

  it('reports which input is missing', async () => {
    const { blobs, job, carrier } = await scene();
    await blobs.delete(job.rowPack);
    await expect(carried(job, carrier, going)).rejects.toMatchObject({
      failure: { kind: 'blob-missing', reason: expect.stringContaining('3 bytes') as string },
    });
  });

  it.each([
    ['data', 'permanent'],
    ['usage', 'permanent'],
    ['environment', 'sick'],
    ['transient', 'transient'],
  ] as const)('passes on a failure of kind %s as %s, with its cure', async (kind, expected) => {
    const error = new QianmoError({ kind, what: 'no store', found: 'x', cure: 'mount it' });
    const { job, carrier } = await scene(executing(() => Promise.reject(error)));
    const clock = patientClock();
    await expect(carried(job, { ...carrier, clock }, going)).rejects.toMatchObject({
      failure: { kind: expected, reason: 'no store; found x; cure: mount it' },
    });
  });

  it('refuses a job that names a place outside of its list, before anything is fetched', async () => {
    const { blobs, job, carrier } = await scene();
    const limits = jobLimitsOf({
      ...{ stores: ['/data/stores'], endpoints: [], workingFolder: '/', environment: {} },
    });
    const elsewhere = { ...job, store: { ...job.store, address: '/etc' } };
    await expect(carried(elsewhere, { ...carrier, limits }, going)).rejects.toMatchObject({
      failure: { kind: 'refused', reason: expect.stringContaining('/etc') as string },
    });
    expect(blobs.bytesRead).toBe(0);
  });

  it('refuses a job that another machine may be able to do, for every kind of failure', async () => {
    for (const kind of ['data', 'environment'] as const) {
      const error = new QianmoError({ kind, what: 'no GPU', isOfThisMachine: true });
      const { job, carrier } = await scene(executing(() => Promise.reject(error)));
      const clock = patientClock();
      await expect(carried(job, { ...carrier, clock }, going)).rejects.toMatchObject({
        failure: { kind: 'refused', reason: 'no GPU' },
      });
    }
  });

  it.each([
    Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }),
    new QianmoError({
      ...{ kind: 'data', what: 'a store cannot be fetched', isOfThisMachine: true },
      cause: Object.assign(new Error('spawn ENOMEM'), { code: 'ENOMEM' }),
    }),
  ])('blames the machine for %s', async (error) => {
    const { job, carrier } = await scene(executing(() => Promise.reject(error)));
    await expect(carried(job, { ...carrier, clock: patientClock() }, going)).rejects.toMatchObject({
      failure: { kind: 'sick' },
    });
  });

  it('stops a computation at its deadline and names the deadline', async () => {
    const obedient = executing((_, signal, onBegin) => {
      onBegin?.();
      return untilTold(signal);
    });
    const { job, carrier } = await scene(obedient);
    const clock = { ...instantClock(), sleep: firstSleepsOnly() };
    await expect(carried(job, { ...carrier, clock }, going)).rejects.toMatchObject({
      failure: {
        kind: 'transient',
        reason: expect.stringContaining('deadline of 1000 ms') as string,
      },
    });
  });

  it('counts the deadline from when the job starts, not from when it was received', async () => {
    const clock = steppedClock();
    let begin = (): void => undefined;
    const starting = executing((_, signal, onBegin = () => undefined) => {
      begin = onBegin;
      return untilTold(signal);
    });
    const { job, carrier } = await scene(starting);
    let endedMs: number | null = null;
    const failed = carried(job, { ...carrier, clock }, going).finally(() => {
      endedMs = clock.monotonicMs();
    });
    failed.catch(() => undefined);
    await clock.asleep();
    // The start of a process takes longer than the job may.
    clock.advance(2 * job.timeoutMs);
    await settled();
    begin();
    await clock.asleep();
    clock.advance(job.timeoutMs - 1);
    await settled();
    expect(endedMs).toBeNull();
    clock.advance(1);
    await expect(failed).rejects.toMatchObject({
      failure: { reason: expect.stringContaining('deadline of 1000 ms') as string },
    });
    expect(endedMs).toBe(3 * job.timeoutMs);
  });

  it('gives up on a job that never starts, long after its deadline', async () => {
    const clock = steppedClock();
    const { job, carrier } = await scene(executing((_, signal) => untilTold(signal)));
    const failed = carried(job, { ...carrier, clock }, going);
    failed.catch(() => undefined);
    await clock.asleep();
    clock.wakeAll();
    await expect(failed).rejects.toMatchObject({
      failure: {
        kind: 'transient',
        reason: expect.stringContaining('did not begin within 300000 ms') as string,
      },
    });
  });

  it('gives up on an executor that does not stop', async () => {
    const { job, carrier } = await scene(executing(() => new Promise(() => undefined)));
    await expect(carried(job, carrier, going)).rejects.toBeInstanceOf(ExecutorStuckError);
  });

  it('passes the request to stop on to the executor', async () => {
    const stop = new AbortController();
    const { job, carrier } = await scene(
      executing((input, signal) => {
        stop.abort();
        return signal?.aborted === true
          ? Promise.reject(new Error('given up'))
          : Promise.resolve(outputOf(input));
      }),
    );
    const clock = patientClock();
    await expect(carried(job, { ...carrier, clock }, stop.signal)).rejects.toMatchObject({
      failure: { reason: 'given up' },
    });
  });
});

/** Resolves when all pending reactions have run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The behaviour of an executor that obeys. */
function untilTold(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(new Error('stopped')));
  });
}

/** A clock on which no deadline ever passes. */
function patientClock() {
  return { ...instantClock(), sleep: () => new Promise<void>(() => undefined) };
}

/** The limit on starting and the deadline pass at once; the time to stop afterwards never does. */
function firstSleepsOnly(): () => Promise<void> {
  let sleepCount = 0;
  return () => {
    sleepCount += 1;
    return sleepCount <= 2 ? Promise.resolve() : new Promise(() => undefined);
  };
}
