/** Drives a dispatcher through the outer steps of a load and measures each. */

import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import type { Clock } from '../../../shared/base/clock.js';
import type { CheckoutCode } from './checkout-code.js';
import { noOpOrders } from './no-op-jobs.js';
import type { JobQueue } from '../../../shared/queue/job-queue.js';
import type { Load, MeasuredStep, Part } from './overhead-cases.js';

export const QUEUE_PREFIX = '{overhead}';

export function loadQueue(
  code: CheckoutCode,
  { redisUrl }: Pick<Part, 'redisUrl'>,
  clock: Clock,
): JobQueue {
  return code.bullmqJobQueue({ redisUrl, prefix: QUEUE_PREFIX, clock });
}

/** @param watch told when a measured step begins and ends: what makes its jobs is not measured */
export async function measuredRun(
  { dispatcher, load, clock }: { dispatcher: Dispatcher; load: Load; clock: Clock },
  code: CheckoutCode,
  watch = { begins: (): void => undefined, ends: (): void => undefined },
): Promise<MeasuredStep[]> {
  const signal = new AbortController().signal;
  const steps: MeasuredStep[] = [];
  for (let outerStep = 0; outerStep < load.warmUpSteps + load.stepCount; outerStep += 1) {
    const orders = noOpOrders(load, outerStep, code);
    const isMeasured = outerStep >= load.warmUpSteps;
    if (isMeasured) watch.begins();
    const startMs = clock.monotonicMs();
    let [endMs, longestJobMs, jobsMs] = [startMs, 0, 0];
    for await (const { result } of dispatcher.run(orders, (delivered) => delivered, signal)) {
      endMs = clock.monotonicMs();
      longestJobMs = Math.max(longestJobMs, result.computeMs);
      jobsMs += result.computeMs;
    }
    if (!isMeasured) continue;
    watch.ends();
    steps.push({ stepMs: endMs - startMs, longestJobMs, jobsMs, jobCount: orders.length });
  }
  return steps;
}
