import { describe, expect, it } from 'vitest';
import type { Dispatcher } from '../../../../coordinator/dispatch/dispatcher.js';
import {
  createInMemoryDispatcher,
  type StartMore,
} from '../../../../coordinator/dispatch/in-memory-dispatcher.js';
import type { JobExecutor } from '../../../../shared/queue/job-executor.js';
import {
  executorForTest,
  ordersForTest,
  outputOf,
  resultsOf,
} from '../../../conformance/dispatcher.js';
import { instantClock } from '../../../fixtures/clocks/instant-clock.js';

const LONG_JOB_MS = 100;
const ORDERS = ordersForTest(8).map((order) => ({ ...order, rowCount: 10 }));
/** An executor for each order, since all of them take long. */
const WANTED_COUNT = ORDERS.length;

function executorOf(computeMs: number): JobExecutor & { readonly calls: unknown[] } {
  return executorForTest((input) => ({ ...outputOf(input), computeMs }));
}

function dispatcherOf(executor: JobExecutor, startMore: StartMore): Dispatcher {
  return createInMemoryDispatcher({
    executors: [executor],
    startMore,
    ...{ clock: instantClock(), attemptsMax: 1, sink: () => undefined },
  });
}

async function results(dispatcher: Dispatcher): Promise<unknown[]> {
  const read = await resultsOf(dispatcher, ORDERS);
  return read
    .map(({ result, output }) => ({ ...result, output }))
    .sort((a, b) => a.jobIndex - b.jobIndex);
}

describe('executors that are started while others compute', () => {
  it('follow long jobs, take their share, and change no result', async () => {
    const added = Array.from({ length: WANTED_COUNT - 1 }, () => executorOf(LONG_JOB_MS));
    const asked: number[] = [];
    const dispatcher = dispatcherOf(executorOf(LONG_JOB_MS), (count) => {
      asked.push(count);
      return Promise.resolve(added);
    });
    expect(dispatcher.executorCount?.()).toBe(1);
    const first = await results(dispatcher);
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toEqual([WANTED_COUNT - 1]);
    expect(dispatcher.executorCount?.()).toBe(WANTED_COUNT);
    expect(await results(dispatcher)).toEqual(first);
    for (const { calls } of added) expect(calls).toHaveLength(1);
    expect(asked).toHaveLength(1);
  });

  it('are not there for short jobs', async () => {
    const dispatcher = dispatcherOf(executorOf(1), () => {
      throw new Error('none is to be started');
    });
    for (let call = 0; call < 100; call += 1) await results(dispatcher);
    expect(dispatcher.executorCount?.()).toBe(1);
  });

  it('take part only when all of them are ready, and are given up at the end', async () => {
    let closed: AbortSignal | null = null;
    const dispatcher = dispatcherOf(executorOf(LONG_JOB_MS), (_, onClose) => {
      closed = onClose;
      return new Promise((_resolve, reject) => {
        onClose.addEventListener('abort', () => reject(new Error('given up')));
      });
    });
    await results(dispatcher);
    await results(dispatcher);
    expect(dispatcher.executorCount?.()).toBe(1);
    expect(closed).toMatchObject({ aborted: false });
    await dispatcher.close();
    expect(closed).toMatchObject({ aborted: true });
  });
});
