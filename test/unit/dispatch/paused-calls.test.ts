/** Several calls of one coordinator that wait in a pause, as the trials of a sweep do. Seen to fail for a wake-up that all share. */

import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { OrdersHeard } from '../../../coordinator/dispatch/run-control.js';
import type { Clock } from '../../../shared/base/clock.js';
import { NO_ORDERS } from '../../../shared/queue/run-orders.js';
import { simulatedClock } from '../../fixtures/clocks/simulated-clock.js';

const SLEEPS_MAX = 20;

/** A pause that looks again and again without a wait would never let anything else happen. */
function patientClock(): Clock {
  const clock = simulatedClock();
  let sleepCount = 0;
  return {
    ...clock,
    sleep: (durationMs, signal) => {
      sleepCount += 1;
      if (sleepCount > SLEEPS_MAX) throw new Error('the pause does not wait');
      return clock.sleep(durationMs, signal);
    },
  };
}

function pausedOrders(): OrdersHeard {
  const heard = new OrdersHeard({ clock: patientClock(), sink: () => undefined });
  heard.hear({ ...NO_ORDERS, isPaused: true });
  return heard;
}

it('lets the others wait when one of them is aborted', async () => {
  const heard = pausedOrders();
  const [one, other] = [new AbortController(), new AbortController()];
  const [aborted, waiting] = [heard.allowed(one.signal), heard.allowed(other.signal)];
  one.abort();
  await aborted;
  await setImmediate();
  heard.hear(NO_ORDERS);
  await waiting;
  expect(heard.progress.state).toBe('running');
});

it('lets a call wait that comes after one was aborted', async () => {
  const heard = pausedOrders();
  const one = new AbortController();
  const aborted = heard.allowed(one.signal);
  one.abort();
  await aborted;
  const waiting = heard.allowed(new AbortController().signal);
  await setImmediate();
  expect(heard.progress.state).toBe('paused');
  heard.hear(NO_ORDERS);
  await waiting;
});

it('ends a call whose checkpoint at the beginning of a pause fails', async () => {
  const heard = pausedOrders();
  const { signal } = new AbortController();
  const failure = new Error('the disk is full');
  await expect(heard.allowed(signal, () => Promise.reject(failure))).rejects.toBe(failure);
  expect(heard.progress.state).toBe('pausing');
});
