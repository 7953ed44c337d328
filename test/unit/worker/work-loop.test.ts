/** How long a worker rests that cannot compute, over a queue that hands it the jobs of the test. */

import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { JobConsumer, OpenConsumerOptions } from '../../../shared/queue/job-queue.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';
import { encodeSums } from '../../../shared/sums/delivered-sums.js';
import { runWorker, type WorkerEvent } from '../../../worker/carrying/work-loop.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { executorForTest, ordersForTest } from '../../conformance/dispatcher.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';
import { lossesForTest, layoutOf, nodeForTest } from '../../fixtures/gradient-results.js';

// Seen to fail: the join began the rests anew.
it('a worker that only adds sums rests longer after each job that it cannot compute', async () => {
  const blobs = new MemoryBlobStore();
  const [order] = ordersForTest(1);
  const dense = await blobs.put(Uint8Array.of(1));
  const gradient = { ...order?.job, ...{ epoch: 1, dense } };
  const nodes = [nodeForTest(layoutOf([1], []), [1], [2])];
  const sum = await blobs.put(encodeSums({ nodes, losses: lossesForTest(1) }, 1, true));
  const parts = [0, 1].map((first) => ({ first, end: first + 1, sum }));
  const work = { kind: 'join', stepLeafCount: 2, nodes: parts };
  const join = { ...gradient, ...{ taskIndices: [], work } };

  const clock = steppedClock();
  const stop = new AbortController();
  const events: WorkerEvent[] = [];
  let opened: OpenConsumerOptions | undefined;
  const taking: unknown[] = [];
  const consumer: JobConsumer = {
    ...{ server: 'test', name: 'w', blobs: () => blobs },
    takeOne: (how) => void taking.push(how),
    pause: () => undefined,
    beat: () => Promise.resolve(1),
    quarantinedMs: () => Promise.resolve(0),
    stop: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  const openConsumer = (options: OpenConsumerOptions): Promise<JobConsumer> => {
    opened = options;
    return Promise.resolve(consumer);
  };
  const unable = executorForTest(() => {
    throw new QianmoError({ kind: 'environment', what: 'no GPU here', isOfThisMachine: true });
  });
  const working = runWorker({
    ...{ queue: { address: 'test', openConsumer }, name: 'w', nonce: 'n', executor: unable, clock },
    ...{ signal: stop.signal, onEvent: (event: WorkerEvent) => void events.push(event) },
  });
  const outcomes: unknown[] = [];
  for (const [place, data] of [gradient, join, gradient, join].entries()) {
    while (taking.length === 0) {
      clock.advance(100);
      await setImmediate();
    }
    taking.length = 0;
    const job = { jobId: `job-${place}`, data };
    outcomes.push((await opened?.process(job, new AbortController().signal))?.kind);
  }
  stop.abort();
  clock.wakeAll();
  await working;
  expect(outcomes).toEqual(['failed', 'completed', 'failed', 'completed']);
  const restsMs = events.flatMap((event) =>
    event.kind === 'worker-resting' ? [event.restMs] : [],
  );
  expect(restsMs).toEqual([1_000, 2_000]);
});
