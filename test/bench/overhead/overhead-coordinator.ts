/** The coordinator of a load: the production dispatcher over Redis. Prints what it has measured. */

import { systemClock } from '../../../shared/base/clock.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { checkoutCode } from './checkout-code.js';
import { loadQueue, measuredRun, QUEUE_PREFIX } from './measured-run.js';
import { partOf, type MeasuredLoad } from './overhead-cases.js';
import { processorWatch } from './processor-watch.js';

const part = partOf(process.argv[2]);
const { load } = part;
const code = await checkoutCode(part.checkout);
const clock = systemClock;
const queue = loadQueue(code, part, clock);
const dispatcher = await code.createQueueDispatcher({
  ...{ queue, runId: 'overhead', nonce: freshNonce(), clock, sink: () => undefined },
  limits: code.RunConfigSchema.shape.queue.parse({ prefix: QUEUE_PREFIX }),
});

const watch = processorWatch(part.pids);
const steps = await measuredRun({ dispatcher, load, clock }, code, watch);
await dispatcher.close();
const measured: MeasuredLoad = { steps, processorMs: watch.processorMs };
console.log(JSON.stringify(measured));
