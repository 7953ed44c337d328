/** The coordinator of a load: the production dispatcher over Redis. Prints what it has measured. */

import { systemClock } from '../../../shared/base/clock.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { usageOf } from '../resident-memory.js';
import { checkoutCode } from './checkout-code.js';
import { loadQueue, measuredRun, QUEUE_PREFIX } from './measured-run.js';
import { partOf, type MeasuredLoad } from './overhead-cases.js';

const MS_PER_TICK = 10;

const part = partOf(process.argv[2]);
const { load } = part;
const code = await checkoutCode(part.checkout);
const clock = systemClock;
const queue = loadQueue(code, part, clock);
const dispatcher = await code.createQueueDispatcher({
  ...{ queue, runId: 'overhead', nonce: freshNonce(), clock, sink: () => undefined },
  limits: code.RunConfigSchema.shape.queue.parse({ prefix: QUEUE_PREFIX }),
});

const others = Object.entries(part.pids);
const ownMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};
const spentMs = (): [string, number][] => [
  ['coordinator', ownMs()],
  ...others.map(([name, pids]): [string, number] => [
    name,
    MS_PER_TICK * pids.reduce((sum, pid) => sum + usageOf(pid).ticks, 0),
  ]),
];
const processorMs: Record<string, number> = {};
const add = (sign: number): void => {
  for (const [name, ms] of spentMs()) processorMs[name] = (processorMs[name] ?? 0) + sign * ms;
};
const steps = await measuredRun({ dispatcher, load, clock }, code, {
  begins: () => add(-1),
  ends: () => add(1),
});
await dispatcher.close();
const measured: MeasuredLoad = { steps, processorMs };
console.log(JSON.stringify(measured));
