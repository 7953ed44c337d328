/** Gives orders to a simulated run from another machine, as `qianmo pause` and the like do. */

import { NO_ORDERS, type RunOrders } from '../../shared/queue/run-orders.js';
import { RUN_NAME } from './simulated-run.js';
import { signedQueueOf } from './variants.js';
import type { World } from './world.js';

/** An order that finds no coordinator, or no server, is given again. */
const AGAIN_MS = 2_000;

/** Resolves when the run has the orders, or when the simulation has stopped. */
async function order(change: Partial<RunOrders>, world: World): Promise<void> {
  const controller = await signedQueueOf(world.variant, world.server.queue).openController();
  while (!world.stopped.aborted) {
    const run = world.server.isAway ? null : await controller.find(RUN_NAME);
    const earlier = run?.orders ?? NO_ORDERS;
    const isDone =
      run !== null && (await controller.replace(RUN_NAME, earlier, { ...earlier, ...change }));
    if (isDone) break;
    await world.time.sleep(AGAIN_MS, world.stopped);
  }
  world.note('operator', JSON.stringify(change));
  world.invariants.disturb();
}

/** A pause holds until the operator ends it, whichever coordinator the run has then. */
export async function pause(durationMs: number, world: World): Promise<void> {
  await order({ isPaused: true }, world);
  world.invariants.disturb(durationMs);
  await world.time.sleep(durationMs, world.stopped);
  await order({ isPaused: false }, world);
}

export async function cancel(world: World): Promise<void> {
  await order({ isCancelled: true }, world);
}

export async function extend(outerSteps: number, world: World): Promise<void> {
  await order({ outerSteps }, world);
}
