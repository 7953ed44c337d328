import { describe, expect, it } from 'vitest';
import type { Dispatcher } from '../../../../coordinator/dispatch/dispatcher.js';
import { createInMemoryDispatcher } from '../../../../coordinator/dispatch/in-memory-dispatcher.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { RunEvent } from '../../../../shared/events/run-events.js';
import type { JobExecutor } from '../../../../shared/queue/job-executor.js';
import {
  admitAll,
  collected,
  executorForTest,
  ordersForTest,
  outputOf,
  resultsOf,
} from '../../../conformance/dispatcher.js';
import { instantClock } from '../../../fixtures/clocks/instant-clock.js';

const signal = new AbortController().signal;

const dispatcherOf = (executors: readonly JobExecutor[]): Dispatcher =>
  createInMemoryDispatcher({
    ...{ executors, clock: instantClock(), attemptsMax: 1, sink: () => undefined },
  });

describe('the in-memory dispatcher', () => {
  it('hands on results as they arrive from several executors', async () => {
    const held = new Map<number, () => void>();
    const executor = executorForTest((input) => {
      const { jobIndex } = input.job;
      return new Promise((resolve) => held.set(jobIndex, () => resolve(outputOf(input))));
    });
    const results = dispatcherOf([executor, executor]).run(ordersForTest(3), admitAll, signal);
    expect(executor.calls.map(({ job }) => job.jobIndex)).toEqual([0, 1]);
    const ends = [1, 2, 0];
    held.get(1)?.();
    const read: number[] = [];
    for await (const { result } of results) {
      read.push(result.jobIndex);
      held.get(ends[read.length] ?? -1)?.();
    }
    expect(read).toEqual(ends);
  });

  it('stops any number of executors, and nobody takes that for a leak', async () => {
    const count = 16;
    const warnings: Error[] = [];
    const onWarning = (warning: Error): unknown => warnings.push(warning);
    process.on('warning', onWarning);
    let stoppedCount = 0;
    const executor = executorForTest(
      (_, own) =>
        new Promise((_resolve, reject) =>
          own?.addEventListener('abort', () => {
            stoppedCount += 1;
            reject(new Error('stopped'));
          }),
        ),
    );
    const dispatcher = dispatcherOf(Array.from({ length: count }, () => executor));
    const abort = new AbortController();
    const reading = collected(dispatcher.run(ordersForTest(count), admitAll, abort.signal));
    abort.abort();
    await expect(reading).rejects.toMatchObject({ kind: 'interrupted' });
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', onWarning);
    expect(stoppedCount).toBe(count);
    expect(warnings).toEqual([]);
  });

  it('computes before results are read, and judges them when they are', async () => {
    const executor = executorForTest();
    const dispatcher = dispatcherOf([executor]);
    let read: typeof admitAll | null = null;
    const results = dispatcher.run(
      ordersForTest(2),
      (delivered) => read?.(delivered) ?? 'not_of_this_step',
      signal,
    );
    await new Promise((resolve) => setImmediate(resolve));
    expect(executor.calls).toHaveLength(2);
    read = admitAll;
    expect(await collected(results)).toHaveLength(2);
    expect(dispatcher.rejections.size).toBe(0);
  });

  it('waits longer before each retry, and says why it retries', async () => {
    const events: RunEvent[] = [];
    const clock = instantClock();
    const startsMs: number[] = [];
    const executor = executorForTest((input) => {
      startsMs.push(clock.monotonicMs());
      if (startsMs.length < 4)
        throw new QianmoError({ kind: 'transient', what: 'the compute process died' });
      return outputOf(input);
    });
    const dispatcher = createInMemoryDispatcher({
      executors: [executor],
      clock,
      attemptsMax: 4,
      sink: (event) => events.push(event),
    });
    await resultsOf(dispatcher, 1);
    // 100 ms, then twice as long each time: 0, 100, 300, 700
    expect(startsMs).toEqual([0, 100, 300, 700]);
    expect(events.slice(0, -1)).toEqual(
      Array(3).fill({
        kind: 'job-retried',
        ...{ outerStep: 0, jobIndex: 0, cause: 'failed', reason: 'the compute process died' },
      }),
    );
  });
});
