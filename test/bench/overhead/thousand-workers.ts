/**
 * Workers in virtual time: the production dispatcher and work loops in one process, over the queue in memory,
 * whose commands travel. Time passes where jobs compute and commands travel; code takes none. So it
 * shows what the rules of coordinator and workers (windows, jobs taken ahead, intervals) leave idle.
 */

import { setMaxListeners } from 'node:events';
import type { Clock } from '../../../shared/base/clock.js';
import { checkoutCode } from './checkout-code.js';
import { delayedQueue } from './delayed-queue.js';
import { measuredRun, QUEUE_PREFIX } from './measured-run.js';
import { noOpExecutor } from './no-op-jobs.js';
import { partOf, type MeasuredLoad } from './overhead-cases.js';

const { checkout, load } = partOf(process.argv[2]);
const code = await checkoutCode(checkout);
const time = new code.VirtualTime();
const clock: Clock = {
  epochMs: () => time.nowMs,
  monotonicMs: () => time.nowMs,
  sleep: (durationMs, signal) => time.sleep(durationMs, signal),
};
const queue = delayedQueue(new code.MemoryJobQueue({ clock }), clock, load.latencyMs);
const stop = new AbortController();
setMaxListeners(Number.POSITIVE_INFINITY, stop.signal);

const steps = await time.run(
  async () => {
    const executor = noOpExecutor(load, clock);
    const workers = Array.from({ length: load.workerCount }, (_, index) =>
      code.runWorker({
        ...{ queue, executor, clock, name: `w${index}`, nonce: `n${index}`, signal: stop.signal },
      }),
    );
    const dispatcher = await code.createQueueDispatcher({
      ...{ queue, runId: 'overhead', nonce: 'start', clock, sink: () => undefined },
      limits: code.RunConfigSchema.shape.queue.parse({ prefix: QUEUE_PREFIX }),
    });
    const measured = await measuredRun({ dispatcher, load, clock }, code);
    await dispatcher.close();
    stop.abort();
    await Promise.all(workers);
    return measured;
  },
  () => undefined,
);
const measured: MeasuredLoad = { steps, processorMs: {} };
console.log(JSON.stringify(measured));
