/** One worker that serves two runs under two prefixes of one real Redis. */

import { expect, it } from 'vitest';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
  workerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';

const room = new QueueRoom('pool');

it('computes the jobs of both, each with the blobs of its own queue', async () => {
  const prefixes = ['{pool-a}', '{pool-b}'];
  const shares = prefixes.map((prefix, place) => ({
    queue: redisQueue(room.redis.url, prefix),
    weight: place + 1,
  }));
  const executor = {
    execute: (input: Parameters<typeof raisedOutput>[0]) =>
      Promise.resolve(raisedOutput(input, 'pool')),
    close: () => Promise.resolve(),
  };
  const worker = workerInTest(shares, executor, { name: 'shared' });
  room.cleanups.push(() => worker.stop());
  await worker.ready;
  const runs = await Promise.all(
    shares.map(({ queue }, place) =>
      dispatcherInTest(queue, queueConfig({ prefix: prefixes[place] }), { runId: `run-${place}` }),
    ),
  );
  const { signal } = new AbortController();
  for (const { dispatcher } of runs) room.cleanups.push(() => dispatcher.close());
  // Two rounds, so that a wait of the worker on the other queue outlasts the first.
  for (let round = 0; round < 2; round += 1) {
    const results = await Promise.all(
      runs.map(({ dispatcher }) => collected(dispatcher.run(ordersForTest(12), admitAll, signal))),
    );
    for (const ofRun of results) {
      expect(ofRun).toHaveLength(12);
      expect(new Set(ofRun.map(({ result }) => result.worker))).toEqual(new Set(['shared']));
    }
  }
  expect(runs.flatMap(({ events }) => events.filter(({ kind }) => kind === 'job-retried'))).toEqual(
    [],
  );
});
