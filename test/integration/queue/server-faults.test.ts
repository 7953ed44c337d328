/** A Redis that goes on while its connections go silent, as behind a firewall that forgets them, or its scripts vanish. */

import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import { executorForTest, resultsOf } from '../../conformance/dispatcher.js';
import { tcpFaultProxy } from '../../fixtures/faults/tcp-fault-proxy.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';

const executor = executorForTest((input: Parameters<typeof raisedOutput>[0]) =>
  Promise.resolve(raisedOutput(input, 'silent')),
);

/** A test with a Redis of its own. They run side by side, because most of their time is waiting. */
function fault(name: string, act: (room: QueueRoom) => Promise<void>): void {
  describe.concurrent('a Redis', () => {
    const room = new QueueRoom('server-faults');
    it(name, () => act(room));
  });
}

async function silenceable(room: QueueRoom) {
  const proxy = await tcpFaultProxy(Number(new URL(room.redis.url).port));
  room.cleanups.push(() => proxy.close());
  const { prefix } = room;
  const queue = bullmqJobQueue({ redisUrl: proxy.url, prefix, clock: systemClock });
  return { proxy, queue };
}

// Seen to fail: the worker was never listed again, and took no job.
fault('a worker replaces silent connections, is listed again, and computes', async (room) => {
  const { proxy, queue } = await silenceable(room);
  const worker = await room.worker(executor, {}, queue);
  proxy.silence();
  const { dispatcher } = await room.dispatcher();
  expect(await resultsOf(dispatcher, 3)).toHaveLength(3);
  expect(worker.events.map(({ kind }) => kind)).toContain('redis-trouble');
  const controller = await room.queue.openController();
  room.cleanups.push(() => controller.close());
  expect((await controller.workers()).map(({ name }) => name)).toEqual(['test-worker']);
});

// Seen to fail: the coordinator waited for an answer on its connections without end.
fault('a coordinator replaces silent connections, and its step goes on', async (room) => {
  const { proxy, queue } = await silenceable(room);
  const coordinator = await room.dispatcher({}, {}, queue);
  const results = resultsOf(coordinator.dispatcher, 3);
  const away = coordinator.next('redis-away');
  proxy.silence();
  await away;
  await room.worker(executor);
  expect(await results).toHaveLength(3);
});

// Seen to fail: adding jobs ended the run with NOSCRIPT.
fault('scripts that somebody removes over and over end no run', async (room) => {
  const { client } = room.redis;
  const over = new AbortController();
  const flushing = (async () => {
    while (!over.signal.aborted) await client.script('FLUSH');
  })();
  room.cleanups.push(async () => {
    over.abort();
    await flushing;
  });
  await room.worker(executor);
  const { dispatcher } = await room.dispatcher();
  for (let step = 0; step < 10; step += 1) expect(await resultsOf(dispatcher, 16)).toHaveLength(16);
});
