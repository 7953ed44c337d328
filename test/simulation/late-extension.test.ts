/** Orders that reach a run too late, over the queue in memory: its training ends, or its coordinator is dead. */

import { expect, it } from 'vitest';
import { extension, ORDERS } from '../../coordinator/runs/control-run.js';
import { NO_ORDERS } from '../../shared/queue/run-orders.js';
import { FIXED_BY_END, type LeaseHolder, type RunProgress } from '../../shared/storage/lease.js';
import { ControlScene, RUN } from './control-scene.js';

const STOPPING: RunProgress = {
  ...{ state: 'stopping', training: { outerStep: 2, outerSteps: 12, lengthFixedBy: null } },
};

function holderOf(lengthFixedBy: string | null, outerSteps = 12): LeaseHolder {
  return {
    ...{ start: 'ending', sinceMs: 0, beatMs: 0 },
    process: { host: 'box', boot: 'b', pidNamespace: 'n', pid: 1, startTicks: '1' },
    progress: { state: 'running', training: { outerStep: 12, outerSteps, lengthFixedBy } },
  };
}

// Seen to fail: a resume trained the steps that had been refused.
it('an extension is taken back, and orders that came meanwhile stay', async () => {
  const scene = new ControlScene();
  await scene.run(async () => {
    const producer = await scene.queue.openProducer('');
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
    const producer = await scene.queue.openProducer('');
    await producer.takeLease(RUN, holderOf(null), null);
    const controller = await scene.queue.openController();
    await controller.replace(RUN, NO_ORDERS, earlier);
    await producer.renewLease({ ...holderOf(null), progress: STOPPING });
    await expect(scene.order(order)).rejects.toMatchObject({
      report: { what: expect.stringMatching(/ended before/) as string },
    });
    const next = await scene.queue.openProducer('');
    await next.takeLease(RUN, { ...holderOf(null), start: 'next' }, null);
    expect(await next.renewLease({ ...holderOf(null), start: 'next' })).toEqual(earlier);
  });
});

// Seen to fail: the first of two extensions was refused, and heeded by the next start.
it.each([
  ['is not restored', false, NO_ORDERS],
  ['is restored if the coordinator had heard it', true, { ...NO_ORDERS, outerSteps: 17 }],
])('an extension before the one that is taken back %s', async (_, isHeard, left) => {
  const scene = new ControlScene();
  await scene.run(async () => {
    const producer = await scene.queue.openProducer('');
    await producer.takeLease(RUN, holderOf(null), null);
    const extended = (): Promise<unknown> =>
      scene.order(extension({ count: 5, isAdded: true })).catch((error: unknown) => error);
    const first = extended();
    await scene.clock.sleep(50);
    const second = extended();
    await scene.clock.sleep(50);
    if (isHeard) await producer.renewLease(holderOf(null, 17));
    if (isHeard) expect(await first).toMatchObject({ outerSteps: 17 });
    else expect(await first).toMatchObject({ kind: 'failed' });
    expect(await second).toMatchObject({ kind: 'failed' });
    const next = await scene.queue.openProducer('');
    await next.takeLease(RUN, { ...holderOf(null), start: 'next' }, null);
    expect(await next.renewLease({ ...holderOf(null), start: 'next' })).toEqual(left);
  });
});
