/** What the in-memory queue does beyond the contract: it goes back to an earlier state, as a failover does. */

import { expect, it } from 'vitest';
import { MemoryJobQueue } from '../../../infra/simulation/memory-queue.js';
import { RunFencedError } from '../../../shared/storage/lease.js';
import { jobOf } from '../../conformance/job-queue-scene.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';
import { holderOf } from '../../conformance/job-queue-leases.js';

it('brings back the jobs and locks of an earlier time', async () => {
  const queue = new MemoryJobQueue({ clock: steppedClock() });
  const producer = await queue.openProducer('');
  const worker = queue.enter({ name: 'worker', device: 'cpu', nonce: 'w' });
  await producer.add([{ jobId: 'first', job: jobOf(0) }]);
  const taken = await worker.take('token', 0, new AbortController().signal);
  if (taken === null) throw new Error('no job was taken');
  const goBack = queue.remember();
  const failure = { kind: 'transient', reason: 'so' } as const;
  await worker.end(taken.lock, { kind: 'failed', failure });
  await producer.add([{ jobId: 'second', job: jobOf(1) }]);
  goBack();
  expect(await producer.read('first')).toEqual({ state: 'open', holder: 'worker' });
  expect(await producer.read('second')).toEqual({ state: 'gone' });
  await worker.end(taken.lock, { kind: 'failed', failure });
  expect(await producer.read('first')).toMatchObject({ state: 'failed' });
});

it('keeps the lease for the later epoch after it went back to an earlier one', async () => {
  const queue = new MemoryJobQueue({ clock: steppedClock() });
  const [first, second] = [await queue.openProducer(''), await queue.openProducer('')];
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
