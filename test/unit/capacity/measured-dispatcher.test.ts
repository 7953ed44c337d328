/** What a measured dispatcher notes of each outer step, on a clock that the test moves. */

import { expect, test } from 'vitest';
import { measuredDispatcher } from '../../../coordinator/capacity/measured-dispatcher.js';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory/in-memory-dispatcher.js';
import type { Clock } from '../../../shared/base/clock.js';
import { executorForTest, ordersForTest, outputOf } from '../../conformance/dispatcher.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

test('a step is measured from its orders to its last result, and what lies between two', async () => {
  let nowMs = 0;
  const clock: Clock = { ...instantClock(), monotonicMs: () => nowMs };
  const executor = executorForTest((input) => {
    nowMs += 10;
    return { ...outputOf(input), computeMs: 7 };
  });
  const sink = (): void => undefined;
  const inner = createInMemoryDispatcher({ executors: [executor], clock, attemptsMax: 1, sink });
  let processorMs = 0;
  const { dispatcher, steps } = measuredDispatcher(inner, clock, {
    own: () => (processorMs += 3),
    others: () => 4 * processorMs,
  });
  for (const outerStep of [0, 1]) {
    const orders = ordersForTest(2, outerStep);
    const results = dispatcher.run(
      orders,
      ({ output }) => ({ output }),
      new AbortController().signal,
    );
    for await (const { result } of results) expect(result.computeMs).toBe(7);
    nowMs += 25;
  }
  const job = { computeMs: 7, inputByteCount: 3, outputByteCount: 3 };
  const ofBoth = {
    jobs: [0, 1].map((jobIndex) => ({ jobIndex, ...job })),
    ...{ dispatchMs: 20, processorMs: 3, othersProcessorMs: 12, denseByteCount: 3 },
  };
  expect(steps).toEqual([
    { ...ofBoth, outerStep: 0, serialMs: null },
    { ...ofBoth, outerStep: 1, serialMs: 25 },
  ]);
});
