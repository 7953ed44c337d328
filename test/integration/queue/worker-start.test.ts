/** A worker that loses a connection to Redis while it opens it. */

import { Queue } from 'bullmq';
import { expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import { INNER_LOOP_QUEUE } from '../../../shared/queue/protocol.js';
import { tcpFaultProxy } from '../../fixtures/faults/tcp-fault-proxy.js';
import { handConsumer } from '../../conformance/job-queue-scene.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';

const room = new QueueRoom('worker-start');
/** BullMQ gives the connection on which a worker waits a name of its own. */
const WAITING_CONNECTION_SETUP = /setname[^]*:w:/i;

it('takes jobs when its waiting connection was cut before it was ready', async () => {
  const { redis, prefix } = room;
  const queue = new Queue(INNER_LOOP_QUEUE, { connection: redis.client, prefix });
  const proxy = await tcpFaultProxy(Number(new URL(redis.url).port));
  room.cleanups.push(() => queue.close());
  room.cleanups.push(() => proxy.close());
  const cut = proxy.cutHalfWay(WAITING_CONNECTION_SETUP);
  const consumer = await handConsumer(
    bullmqJobQueue({ redisUrl: proxy.url, prefix, clock: systemClock }),
    { ...{ name: 'w', nonce: 'n', device: 'cpu' }, hasEnded: () => Promise.resolve() },
  );
  room.cleanups.push(() => consumer.close());
  await cut;
  const taken = consumer.next();
  await queue.add('gradient', {}, { jobId: 'a' });
  expect((await taken).jobId).toBe('a');
});
