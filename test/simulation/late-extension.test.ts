/** Orders that reach a run too late, over the queue in memory: its training ends, or its coordinator is dead. */

import { expect, it } from 'vitest';
import { extension, ORDERS } from '../../coordinator/runs/control-run.js';
import { NO_ORDERS } from '../../shared/control/run-orders.js';
import {
  FIXED_BY_END,
  type LeaseHolder,
  type RunProgress,
} from '../../shared/storage/run-lease.js';
import { ControlScene, RUN } from './control-scene.js';

const STOPPING: RunProgress = {
  ...{ state: 'stopping', training: { outerStep: 2, outerSteps: 12, lengthFixedBy: null } },
};

function holderOf(lengthFixedBy: string | null): LeaseHolder {
  return {
    ...{ start: 'ending', sinceMs: 0, beatMs: 0 },
    process: { host: 'box', boot: 'b', pidNamespace: 'n', pid: 1, startTicks: '1' },
    progress: { state: 'running', training: { outerStep: 12, outerSteps: 12, lengthFixedBy } },
  };
}

// Seen to fail: a resume trained the steps that had been refused.
it('an extension is taken back, and orders that came meanwhile stay', async () => {
  const scene = new ControlScene();
  await scene.run(async () => {
    const producer = await scene.queue.openProducer();
    await producer.takeLease(RUN, holderOf(null), null);
    const controller = await scene.queue.openController();
    void scene.clock.sleep(300).then(async () => {
      const { orders } = (await controller.find(RUN))!;
      await controller.replace(RUN, orders, { ...orders, isPaused: true });
      await producer.renewLease(holderOf(FIXED_BY_END));
    });
    await expect(scene.order(extension({ count: 5, isAdded: true }))).rejects.toMatchObject({
      report: { what: expect.stringMatching(/ended before/) as string },
    });
    expect((await controller.find(RUN))?.orders).toEqual({ ...NO_ORDERS, isPaused: true });
  });
});

// Seen to fail: the next start of the run heeded them.
it.each([
  ['an extension', extension({ count: 5, isAdded: true }), NO_ORDERS],
  ['a pause', ORDERS.pause, NO_ORDERS],
  ['a resume', ORDERS.resume, { ...NO_ORDERS, isPaused: true }],
])('%s that no coordinator hears is taken back', async (_, order, earlier) => {
  const scene = new ControlScene();
  await scene.run(async () => {
    const producer = await scene.queue.openProducer();
    await producer.takeLease(RUN, holderOf(null), null);
    const controller = await scene.queue.openController();
    await controller.replace(RUN, NO_ORDERS, earlier);
    // The last renewal.
    await producer.renewLease({ ...holderOf(null), progress: STOPPING });
    await expect(scene.order(order)).rejects.toMatchObject({
      report: { what: expect.stringMatching(/ended before/) as string },
    });
    const next = await scene.queue.openProducer();
    await next.takeLease(RUN, { ...holderOf(null), start: 'next' }, null);
    expect(await next.renewLease({ ...holderOf(null), start: 'next' })).toEqual(earlier);
  });
});
