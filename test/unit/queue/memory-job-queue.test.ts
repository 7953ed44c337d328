/** What the in-memory queue does beyond the contract: it goes back to an earlier state, as a failover does. */

import { expect, it } from 'vitest';
import { MemoryJobQueue } from '../../../shared/queue/memory-job-queue.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { RunFencedError } from '../../../shared/storage/run-lease.js';
import { jobOf } from '../../conformance/job-queue-scene.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';

const holderOf = (start: string) => ({ start, process: thisProcess(), sinceMs: 0, beatMs: 0 });

it('brings back the jobs and locks of an earlier time', async () => {
  const queue = new MemoryJobQueue({ clock: steppedClock() });
  const producer = await queue.openProducer();
  const consumer = await queue.openConsumer({
    ...{ name: 'worker', device: 'cpu', nonce: 'w', onError: () => undefined },
    onReconnected: () => undefined,
  });
  await producer.add([{ jobId: 'first', job: jobOf(0) }]);
  const taken = await consumer.take({ wait: false });
  const goBack = queue.remember();
  await taken?.fail({ kind: 'transient', reason: 'so' });
  await producer.add([{ jobId: 'second', job: jobOf(1) }]);
  goBack();
  expect(await producer.read('first')).toEqual({ state: 'open', holder: 'worker' });
  expect(await producer.read('second')).toEqual({ state: 'gone' });
  await taken?.fail({ kind: 'transient', reason: 'again' });
  expect(await producer.read('first')).toMatchObject({ state: 'failed' });
});

it('keeps the lease for the later epoch after it went back to an earlier one', async () => {
  const queue = new MemoryJobQueue({ clock: steppedClock() });
  const [first, second] = [await queue.openProducer(), await queue.openProducer()];
  const taken = await first.takeLease('run', holderOf('first'), null);
  const goBack = queue.remember();
  const mark = JSON.stringify(holderOf('first'));
  const later = await second.takeLease('run', holderOf('second'), mark);
  goBack();
  await second.renewLease(holderOf('second'));
  await second.add([{ jobId: 'second', job: jobOf(0) }]);
  expect([taken.kind, later.kind]).toEqual(['taken', 'taken']);
  await expect(first.renewLease(holderOf('first'))).rejects.toThrow(RunFencedError);
});
