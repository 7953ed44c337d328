/** Somebody removes the scripts of the server, over and over. */

import { expect, it } from 'vitest';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import {
  dispatcherInTest,
  queueConfig,
  workerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';

const room = new QueueRoom('scripts');

// Seen to fail: adding jobs ended the run with NOSCRIPT.
it('ends no run', async () => {
  const { client } = room.redis;
  const over = new AbortController();
  const flushing = (async () => {
    while (!over.signal.aborted) await client.script('FLUSH');
  })();
  room.cleanups.push(async () => {
    over.abort();
    await flushing;
  });
  const executor = {
    execute: (input: Parameters<typeof raisedOutput>[0]) =>
      Promise.resolve(raisedOutput(input, 'scripts')),
    close: () => Promise.resolve(),
  };
  const worker = workerInTest(room.queue, executor);
  room.cleanups.push(() => worker.stop());
  await worker.ready;
  const { dispatcher } = await dispatcherInTest(room.queue, queueConfig({ prefix: room.prefix }));
  room.cleanups.push(() => dispatcher.close());
  const { signal } = new AbortController();
  for (let step = 0; step < 10; step += 1)
    expect(await collected(dispatcher.run(ordersForTest(16), admitAll, signal))).toHaveLength(16);
});
