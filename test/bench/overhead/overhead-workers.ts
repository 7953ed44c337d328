/** Workers of a load in one process: production work loops with executors that compute nothing. */

import { setMaxListeners } from 'node:events';
import { systemClock } from '../../../shared/base/clock.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { checkoutCode } from './checkout-code.js';
import { loadQueue } from './measured-run.js';
import { noOpExecutor } from './no-op-jobs.js';
import { partOf } from './overhead-cases.js';

const part = partOf(process.argv[2]);
const { load, place } = part;
const code = await checkoutCode(part.checkout);
const clock = systemClock;
const stop = new AbortController();
setMaxListeners(Number.POSITIVE_INFINITY, stop.signal);
process.once('SIGTERM', () => stop.abort());

const count = load.workerCount / load.processCount;
let readyCount = 0;
const onReady = (): void => {
  readyCount += 1;
  if (readyCount === count) console.log('ready');
};
await Promise.all(
  Array.from({ length: count }, (_, index) =>
    code.runWorker({
      queue: loadQueue(code, part, clock),
      ...{ name: `w${place * count + index}`, nonce: freshNonce(), signal: stop.signal, clock },
      executor: noOpExecutor(load, clock),
      onEvent: ({ kind }) => {
        if (kind === 'worker-ready') onReady();
      },
    }),
  ),
);
