/** Results that nobody waits for: each is told, and its output is removed. */

import { describe, expect, it } from 'vitest';
import { JobDelivery } from '../../../coordinator/dispatch/job-delivery.js';
import { LateResults } from '../../../coordinator/dispatch/backup-copies.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import type { WakeUp } from '../../../shared/queue/job-queue.js';
import { PROTOCOL_VERSION } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { MemoryBlobStore } from '../../../infra/simulation/queue/memory-blob-store.js';
import { ordersForTest } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

/** A job that another worker has done, whose slower delivery completes now. Resolves when that was looked at. */
async function lateResult() {
  const [order] = ordersForTest(1);
  if (order === undefined) throw new Error('no order');
  const input = blobRefOf(order.dense);
  const job = { ...order.job, epoch: 1, dense: input, rowPack: input };
  const delivery = new JobDelivery(order, job, 'nonce');
  const blobs = new MemoryBlobStore();
  const output = await blobs.put(Uint8Array.of(9));
  const { runId, outerStep, jobIndex } = job;
  const returnValue = {
    ...{ protocolVersion: PROTOCOL_VERSION, runId, outerStep, jobIndex, output },
    ...{ taskCount: 1, queryRowCount: 1 },
    ...{ computeMs: 1, worker: 'slow', backend: 'test', fingerprint: 'test-01234567' },
  };
  const events: RunEvent[] = [];
  let wake: WakeUp = () => undefined;
  const sut = new LateResults({
    producer: {
      read: () => Promise.resolve({ state: 'completed', worker: 'slow', returnValue }),
      subscribe: (listener) => {
        wake = listener;
        return () => undefined;
      },
    },
    ...{ blobs, clock: instantClock(), sink: (event) => void events.push(event) },
  });
  sut.expect([[delivery.jobId, delivery]]);
  wake(delivery.jobId);
  await new Promise((resolve) => setImmediate(resolve));
  return { events, hasOutput: await blobs.has(output) };
}

describe('a result that comes after another one of its job', () => {
  const told = { kind: 'result-late', outerStep: 0, jobIndex: 0, fromWorker: 'slow' };

  it('is told, and its output removed', async () => {
    const { events, hasOutput } = await lateResult();
    expect(events).toMatchObject([told]);
    expect(hasOutput).toBe(false);
  });
});
