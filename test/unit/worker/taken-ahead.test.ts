/** The time at which a worker takes its next job while the inputs of the one under way are still fetched. Time is virtual. */

import { expect, it } from 'vitest';
import { MemoryJobQueue } from '../../../shared/queue/memory-job-queue.js';
import type { JobProducer } from '../../../shared/queue/job-queue.js';
import type { BlobStore } from '../../../shared/storage/blob-store.js';
import { runWorker } from '../../../worker/carrying/work-loop.js';
import { jobOf } from '../../conformance/job-queue-scene.js';
import { simulatedClock } from '../../fixtures/clocks/simulated-clock.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';

const JOB_MS = 1_000;
const FETCH_MS = 30;
/** The bound on the time by which a job is taken from workers that might become idle. */
const LEAD_MS_MAX = 100;

async function allEnded(producer: JobProducer, jobIds: readonly string[]): Promise<void> {
  const open = new Set(jobIds);
  await new Promise<void>((resolve) => {
    producer.subscribe((jobId) => {
      open.delete(jobId);
      if (open.size === 0) resolve();
    });
  });
}

it('waits for the end of the job under way, not for that of the one before', async () => {
  const clock = simulatedClock();
  const queue = new MemoryJobQueue({ clock });
  const startedMs: number[] = [];
  const fetchedAtMs: number[] = [];
  const stop = new AbortController();
  await clock.run(async () => {
    const producer = await queue.openProducer();
    const store = producer.blobs({ lifetimeMs: 1e6, blobByteCountMax: 1_000 });
    const slow: BlobStore = {
      put: (bytes, ref) => store.put(bytes, ref),
      has: (ref) => store.has(ref),
      delete: (ref) => store.delete(ref),
      get: async (ref) => {
        fetchedAtMs.push(clock.monotonicMs());
        await clock.sleep(FETCH_MS);
        return store.get(ref);
      },
    };
    // A lone worker could take the next job at once.
    await queue.openConsumer({
      ...{ name: 'other', nonce: 'other', device: 'cpu' },
      ...{ onError: () => undefined, onReconnected: () => undefined },
    });
    const working = runWorker({
      ...{ queue, name: 'w', nonce: 'w', clock, signal: stop.signal, blobs: slow },
      executor: {
        execute: async ({ job }, signal, onBegin) => {
          onBegin?.();
          startedMs.push(clock.monotonicMs());
          await clock.sleep(JOB_MS, signal);
          return { ...raisedOutput({ job, rowPack: null }, 'test'), computeMs: JOB_MS };
        },
        close: () => Promise.resolve(),
      },
    });
    const add = async (...indices: readonly number[]): Promise<void> => {
      const jobs = await Promise.all(
        indices.map(async (jobIndex) => {
          const dense = await store.put(Uint8Array.of(jobIndex));
          const { rowPack: _none, ...job } = jobOf(jobIndex, { dense });
          return { jobId: `j-${jobIndex}`, job };
        }),
      );
      const ended = allEnded(
        producer,
        jobs.map(({ jobId }) => jobId),
      );
      await producer.add(jobs);
      await ended;
    };
    await add(0);
    await add(1, 2);
    stop.abort();
    await working;
    await producer.close();
  });
  expect(startedMs).toHaveLength(3);
  expect(fetchedAtMs[2]).toBe((startedMs[1] ?? 0) + JOB_MS - LEAD_MS_MAX);
});
