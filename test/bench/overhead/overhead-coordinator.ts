/** The coordinator of a load: the production dispatcher over Redis. Prints what it has measured. */

import { z } from 'zod';
import { systemClock } from '../../../shared/base/clock.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { usageOf } from '../resident-memory.js';
import { checkoutCode } from './checkout-code.js';
import { measuredRun, QUEUE_PREFIX } from './measured-run.js';
import { partOf, type MeasuredLoad } from './overhead-cases.js';

const MS_PER_TICK = 10;

const part = partOf(process.argv[2]);
const { load, redisUrl } = part;
const code = await checkoutCode(part.checkout);
const clock = systemClock;
const queue = code.bullmqJobQueue({ redisUrl, prefix: QUEUE_PREFIX, clock });
const dispatcher = await code.createQueueDispatcher({
  ...{ queue, runId: 'overhead', nonce: freshNonce(), clock, sink: () => undefined },
  limits: code.RunConfigSchema.shape.queue.parse({ prefix: QUEUE_PREFIX }),
});

const pids = { ...part.pids, coordinator: [process.pid] };
const spentMs = (): Record<string, number> =>
  Object.fromEntries(
    Object.entries(pids).map(([name, ofName]) => [
      name,
      MS_PER_TICK * ofName.reduce((sum, pid) => sum + usageOf(pid).ticks, 0),
    ]),
  );
let before: Readonly<Record<string, number>> = {};
const steps = await measuredRun({ dispatcher, load, clock }, code, () => {
  before = spentMs();
});
const processorMs = Object.fromEntries(
  Object.entries(z.record(z.string(), z.number()).parse(spentMs())).map(([name, ms]) => [
    name,
    ms - (before[name] ?? 0),
  ]),
);
await dispatcher.close();
const measured: MeasuredLoad = { steps, processorMs };
console.log(JSON.stringify(measured));
