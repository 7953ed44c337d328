/** Workers that cannot do the jobs of a run, next to one that can and alone, on the real queue. */

import { describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { executorForTest, ordersForTest, resultsOf } from '../../conformance/dispatcher.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import { remoteControl } from '../../fixtures/queue/remote-control.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';
import type { PROTOCOL_VERSION } from '../../../shared/queue/protocol.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Waits of a minute take a second. */
const hundredfoldClock: Clock = {
  epochMs: () => systemClock.epochMs(),
  monotonicMs: () => systemClock.monotonicMs() * 100,
  sleep: (durationMs, signal) => systemClock.sleep(durationMs / 100, signal),
};
const unableExecutor = executorForTest(() =>
  Promise.reject(
    new QianmoError({ kind: 'environment', what: 'no GPU here', isOfThisMachine: true }),
  ),
);

const room = new QueueRoom('refusals');

function indicesOf(results: readonly { result: { jobIndex: number } }[]): number[] {
  return results.map(({ result }) => result.jobIndex).sort((a, b) => a - b);
}

describe('a worker that cannot do the jobs', () => {
  it('stays away from the queue for a while after it has refused', async () => {
    const control = remoteControl(room.redis.client);
    await room.steeredWorker('able');
    const made = await room.dispatcher({ jobAttemptsMax: 1 });
    for (const jobIndex of numbers(6)) await control.hang(jobIndex);
    const warned = made.next('worker-refused');
    const results = resultsOf(made.dispatcher, 6);
    expect(await control.started()).toBe('able 0');
    const clock = steppedClock();
    const unable = await room.worker(unableExecutor, { name: 'unable', clock });
    await warned;
    for (const _ of numbers(6)) await control.release();
    expect(indicesOf(await results)).toEqual(numbers(6));
    // The job it took and the one ahead. Its pause never ends.
    expect(unable.events.filter(({ kind }) => kind === 'job-failed').length).toBeLessThan(3);
  });

  it('names both versions when coordinator and workers differ', async () => {
    await room.steeredWorker('one');
    const limits = { jobAttemptsMax: 1, outerStepTimeoutMs: 86_400_000 };
    const made = await room.dispatcher(limits, { clock: hundredfoldClock });
    const orders = ordersForTest(1).map((order) => ({
      ...order,
      // A job of an earlier version.
      job: { ...order.job, protocolVersion: 2 as unknown as typeof PROTOCOL_VERSION },
    }));
    await expectFailureOf(resultsOf(made.dispatcher, orders), 'failed', {
      what: 'every connected worker refuses the jobs of this run',
      found: /^worker one: this worker speaks protocol \d+, the job protocol 2/,
    });
  });
});
