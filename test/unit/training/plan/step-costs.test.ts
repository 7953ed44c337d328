/** The costs of outer steps on a clock that the test moves. */

import { expect, test } from 'vitest';
import { measuringDispatcher, stepCosts } from '../../../../coordinator/plan/capacity.js';
import type { Dispatcher } from '../../../../coordinator/dispatch/dispatcher.js';
import { createInMemoryDispatcher } from '../../../../coordinator/dispatch/in-memory-dispatcher.js';
import { ordersOf } from '../../../../coordinator/plan/step-orders.js';
import { stepPlanner } from '../../../../coordinator/plan/step-plan.js';
import type { Clock } from '../../../../shared/base/clock.js';
import { modelSpecOf } from '../../../../shared/models/model-spec.js';
import { executorForTest, outputOf } from '../../../conformance/dispatcher.js';
import { instantClock } from '../../../fixtures/clocks/instant-clock.js';
import { tinyTaskStore } from '../../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../../fixtures/training/training-run.js';

const config = logisticConfig({ tasksPerOuterStep: 6, leavesPerOuterStepMin: 4 });
const store = tinyTaskStore();
const spec = modelSpecOf(config.model, store.manifest.features);

test('are measured from the orders to the last result, and between two steps', async () => {
  let [nowMs, processorMs] = [0, 0];
  const clock: Clock = { ...instantClock(), monotonicMs: () => nowMs };
  const executor = executorForTest((input) => {
    nowMs += 10;
    return { ...outputOf(input), computeMs: 7 };
  });
  const sink = (): void => undefined;
  const inner: Dispatcher = createInMemoryDispatcher({
    ...{ executors: [executor], clock, attemptsMax: 1, sink },
  });
  const { dispatcher, steps } = measuringDispatcher(inner, clock, () => (processorMs += 2));
  const plan = await stepPlanner(config, store).take(0);
  const half = plan.leaves.length / 2;
  const deliveries = [0, half].map((first) => ({ first, end: first + half }));
  for (let step = 0; step < 2; step += 1) {
    const orders = ordersOf(plan, deliveries, new Uint8Array(3), {
      run: { config, store, spec, storeAddress: 'tasks' },
      ...{ packOf: () => new Uint8Array(5), frozen: null, fingerprint: null },
    });
    const read = ({ output }: { readonly output: Uint8Array }) => ({ output });
    const { signal } = new AbortController();
    for await (const { result } of dispatcher.run(orders, read, signal))
      expect(result.computeMs).toBe(7);
    nowMs += 25;
  }
  const cost = plan.leaves.reduce((sum, leaf) => sum + leaf.cost, 0);
  expect(steps.map(({ serialMs }) => serialMs)).toEqual([null, 25]);
  expect(steps[1]).toMatchObject({ deliveryCount: 2, cost, computeMs: 14, dispatchMs: 20 });
  expect(stepCosts(steps.slice(1))).toEqual({
    ...{ serialMs: 25, msPerCost: 14 / cost, workerMsPerDelivery: 2, coordinatorMsPerDelivery: 1 },
    ...{ denseByteCount: 3, hasRowPacks: true, stepMs: 45 },
  });
});
