/** Forgers beside a signed queue: everything that they write is refused, and nothing of it is used. */

import { describe, expect, it } from 'vitest';
import { MemoryJobQueue } from '../../../infra/simulation/memory-queue.js';
import type { JobQueue, JobRecord } from '../../../shared/queue/job-queue.js';
import type { Job, JobResult } from '../../../shared/queue/protocol.js';
import { signedJobQueue, signingKeyOf } from '../../../shared/queue/signed-job-queue.js';
import {
  handConsumer,
  jobOf,
  resultOf,
  type HandConsumer,
  type JobInHand,
} from '../../conformance/job-queue-scene.js';
import { systemClock } from '../../../shared/base/clock.js';

const [key, otherKey] = await Promise.all(
  ['0', '1'].map((digit) => signingKeyOf({ QIANMO_SIGNING_KEY: digit.repeat(32) })),
);

const consumerOf = (queue: JobQueue, name: string): Promise<HandConsumer> =>
  handConsumer(queue, {
    ...{ name, nonce: name, device: 'cpu' },
    hasEnded: () => new Promise((resolve) => setImmediate(resolve)),
  });

const takenBy = (consumer: HandConsumer): Promise<JobInHand> => consumer.next();

/** A queue that a coordinator with the key has put the jobs `a` and `b` on, and one that others reach. */
async function scene() {
  const open = new MemoryJobQueue({ clock: systemClock });
  const producer = await signedJobQueue(open, key ?? null).openProducer('');
  await producer.add(['a', 'b'].map((jobId, jobIndex) => ({ jobId, job: jobOf(jobIndex) })));
  return { open, producer };
}

describe('a result', () => {
  it.each([
    ['is not signed', null, 'the result of worker rogue is not signed'],
    ['has the signature of another key', otherKey ?? null, 'is false'],
  ])('that %s is forged', async (_, rogueKey, reason) => {
    const { open, producer } = await scene();
    // A rogue does not care that it must refuse.
    const rogue = await consumerOf(signedJobQueue(open, rogueKey), 'rogue');
    const told: (JobRecord | undefined)[] = [];
    producer.subscribe((_jobId, record) => told.push(record));
    await (await takenBy(rogue)).complete(resultOf(0));
    expect(await producer.read('a')).toMatchObject({
      ...{ state: 'forged', worker: 'rogue', reason: expect.stringContaining(reason) as string },
    });
    expect(told).toMatchObject([{ state: 'forged' }]);
    await producer.close();
  });

  it('that was handed in for one job is forged for another', async () => {
    const { open, producer } = await scene();
    const honest = await consumerOf(signedJobQueue(open, key ?? null), 'honest');
    const first = await takenBy(honest);
    await first.complete(resultOf(0));
    const genuine = await (await open.openProducer('')).read('a');
    const replayed = genuine.state === 'completed' ? genuine.returnValue : null;
    const rogue = await takenBy(await consumerOf(open, 'rogue'));
    // The forger writes what it has read.
    await rogue.complete(replayed as JobResult);
    expect(await producer.read('a')).toMatchObject({ state: 'completed', worker: 'honest' });
    expect(await producer.read('b')).toMatchObject({ state: 'forged', worker: 'rogue' });
  });
});

describe('a job', () => {
  it.each([
    ['without a signature', null, key, /is not signed/],
    ['signed with another key', otherKey, key, /signature is false/],
    ['that is signed, by a worker without a key', key, null, /has no key/],
  ])('%s is refused', async (_, coordinatorKey, workerKey, reason) => {
    const open = new MemoryJobQueue({ clock: systemClock });
    const producer = await signedJobQueue(open, coordinatorKey ?? null).openProducer('');
    await producer.add([{ jobId: 'a', job: jobOf(0) }]);
    const worker = await consumerOf(signedJobQueue(open, workerKey ?? null), 'w');
    expect((await takenBy(worker)).refusal).toMatch(reason);
  });

  it('that is put on the queue again under another id is refused', async () => {
    const { open } = await scene();
    const stranger = await consumerOf(open, 'stranger');
    const { data } = await takenBy(stranger);
    await takenBy(stranger);
    const forger = await open.openProducer('');
    // The forger writes what it has read.
    await forger.add([{ jobId: 'c', job: data as Job }]);
    const worker = await consumerOf(signedJobQueue(open, key ?? null), 'w');
    expect((await takenBy(worker)).refusal).toMatch(/signature is false/);
  });
});
