/** An extension that reaches a run whose training ends, over the queue in memory. */

import { expect, it } from 'vitest';
import { extension } from '../../coordinator/runs/control-run.js';
import { NO_ORDERS } from '../../shared/control/run-orders.js';
import { FIXED_BY_END, type LeaseHolder } from '../../shared/storage/run-lease.js';
import { ControlScene, RUN } from './control-scene.js';

function holderOf(lengthFixedBy: string | null): LeaseHolder {
  return {
    ...{ start: 'ending', sinceMs: 0, beatMs: 0 },
    process: { host: 'box', boot: 'b', pidNamespace: 'n', pid: 1, startTicks: '1' },
    progress: { state: 'running', training: { outerStep: 12, outerSteps: 12, lengthFixedBy } },
  };
}

// Seen to fail: a resume trained the steps that had been refused.
it('is taken back, and orders that came meanwhile stay', async () => {
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
