/** How a worker stops: on request, or because its executor ignores its signal. */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { ExecutorStuckError } from './carry-job.js';

/** A worker that cannot hand its job back within this time exits anyway: the lock will end. */
const STOP_TIMEOUT_MS = 15_000;

export interface StopSwitch {
  readonly stopped: Promise<void>;
  readonly signal: AbortSignal;
  failure: Error | undefined;
  fail(failure: Error): void;
}

export function stopSwitch(request: AbortSignal): StopSwitch {
  const controller = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    controller.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  if (request.aborted) controller.abort();
  request.addEventListener('abort', () => controller.abort(), { once: true });
  const stop: StopSwitch = {
    stopped,
    signal: controller.signal,
    failure: undefined,
    fail: (failure) => {
      stop.failure = failure;
      controller.abort();
    },
  };
  return stop;
}

export function stuck(cause: ExecutorStuckError): QianmoError {
  return new QianmoError({
    kind: 'failed',
    what: 'the executor did not stop when told to, so this worker ends',
    cause,
  });
}

/** Handing back waits for the server without a limit; this does not. */
export async function endedInTime(
  working: Promise<unknown>,
  clock: Clock,
  stop: StopSwitch,
): Promise<void> {
  const inTime = new AbortController();
  const late = clock.sleep(STOP_TIMEOUT_MS, inTime.signal).then(() => 'late' as const);
  const outcome = await Promise.race([working.then(() => 'ended' as const), late]);
  inTime.abort();
  if (outcome === 'ended') return;
  working.catch(() => undefined);
  stop.failure ??= new QianmoError({
    kind: 'failed',
    what: `this worker could not hand its job back within ${STOP_TIMEOUT_MS} ms`,
    cure: 'no action needed: the job is delivered again when its lock has ended',
  });
}
