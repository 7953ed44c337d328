import { describe, expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { JobResultSchema } from '../../../shared/queue/protocol.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';
import {
  carryJob,
  fetchJob,
  InputCache,
  type JobCarrier,
} from '../../../worker/carrying/carry-job.js';
import { jobLimitsOf } from '../../../worker/carrying/job-limits.js';
import { executorForTest, ordersForTest } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

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
    const result = await carried(job, carrier, going);
    expect(JobResultSchema.parse(result)).toMatchObject({ jobIndex: 0, worker: 'w' });
    expect([...(await blobs.get(result.output))]).toEqual([0, 2, 1]);
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
    await expect(carried(job, carrier, going)).rejects.toMatchObject({
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
      await expect(carried(job, carrier, going)).rejects.toMatchObject({
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
    await expect(carried(job, carrier, going)).rejects.toMatchObject({
      failure: { kind: 'sick' },
    });
  });
});
