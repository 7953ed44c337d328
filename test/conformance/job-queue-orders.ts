/** The contract of every job queue about the orders that are given to a run. */

import { expect } from 'vitest';
import { NO_ORDERS, type RunOrders } from '../../shared/queue/run-orders.js';
import { RUN_LEASE_MS } from '../../shared/queue/timing.js';
import { RunFencedError } from '../../shared/storage/lease.js';
import { holderOf } from './job-queue-leases.js';
import type { Test } from './job-queue-scene.js';

const PAUSED: RunOrders = { ...NO_ORDERS, isPaused: true };
const EXTENDED: RunOrders = { ...NO_ORDERS, outerSteps: 600 };

export function describeOrders(test: Test): void {
  test('gives orders to the run that they name, as long as it has a coordinator', async (scene) => {
    const controller = await scene.controller();
    expect(await controller.find('run')).toBeNull();
    expect(await controller.replace('run', NO_ORDERS, PAUSED)).toBe(false);
    await scene.producer.takeLease('run', holderOf('first'), null);
    expect(await controller.find('run')).toEqual({
      holder: holderOf('first'),
      orders: NO_ORDERS,
    });
    expect(await scene.producer.renewLease(holderOf('first'))).toEqual(NO_ORDERS);
    expect(await controller.replace('other-run', NO_ORDERS, PAUSED)).toBe(false);
    expect(await controller.replace('run', NO_ORDERS, PAUSED)).toBe(true);
    expect(await scene.producer.renewLease(holderOf('first'))).toEqual(PAUSED);
    expect((await controller.find('run'))?.orders).toEqual(PAUSED);
  });

  test('shows how far its holder says the run is', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    // A run of 0 outer steps is what it starts from.
    for (const outerSteps of [10, 0]) {
      const training = { outerStep: 0, outerSteps, lengthFixedBy: null };
      const holder = { ...holderOf('first'), progress: { state: 'paused', training } as const };
      await scene.producer.renewLease(holder);
      expect((await controller.find('run'))?.holder).toEqual(holder);
      const other = await scene.anotherProducer();
      expect(await other.takeLease('run', holderOf('second'), null)).toMatchObject({ holder });
    }
  });

  test('replaces no orders that somebody has changed meanwhile', async (scene) => {
    const [controller, other] = [await scene.controller(), await scene.controller()];
    await scene.producer.takeLease('run', holderOf('first'), null);
    expect(await other.replace('run', NO_ORDERS, EXTENDED)).toBe(true);
    expect(await controller.replace('run', NO_ORDERS, PAUSED)).toBe(false);
    const both = { ...EXTENDED, isPaused: true };
    expect(await controller.replace('run', EXTENDED, both)).toBe(true);
    expect(await scene.producer.renewLease(holderOf('first'))).toEqual(both);
  });

  test('says how the coordinator that had the lease ended', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    expect(await controller.endOf('run', 'first')).toBeNull();
    const training = { outerStep: 7, outerSteps: 9, lengthFixedBy: null };
    await scene.producer.releaseLease({ end: { kind: 'cancelled', training } });
    const end = { start: 'first', kind: 'cancelled', training };
    expect(await controller.endOf('run', 'first')).toEqual(end);
    const second = await scene.anotherProducer();
    await second.takeLease('run', holderOf('second'), null);
    expect(await controller.endOf('run', 'second')).toBeNull();
    expect(await controller.endOf('run', 'first')).toEqual(end);
  });

  test('passes orders on from a dead coordinator to the next one, and to no other', async (scene) => {
    const [first, second] = [scene.producer, await scene.anotherProducer()];
    const controller = await scene.controller();
    await first.takeLease('run', holderOf('first'), null);
    await controller.replace('run', NO_ORDERS, PAUSED);
    await scene.passInSilence(RUN_LEASE_MS + 1_000);
    expect(await controller.find('run')).toBeNull();
    expect(await controller.replace('run', PAUSED, NO_ORDERS)).toBe(false);
    await second.takeLease('run', holderOf('second'), null);
    expect(await second.renewLease(holderOf('second'))).toEqual(PAUSED);
    await expect(first.renewLease(holderOf('first'))).rejects.toThrow(RunFencedError);
    await first.releaseLease();
    expect(await second.renewLease(holderOf('second'))).toEqual(PAUSED);
  });

  test('takes an order back when no coordinator holds the run, and only that', async (scene) => {
    const controller = await scene.controller();
    const withdraw = (): Promise<boolean> =>
      controller.withdraw('run', (orders) => ({ ...orders, isCancelled: false }));
    const cancelled: RunOrders = { ...PAUSED, isCancelled: true };
    expect(await withdraw()).toBe(true);
    await scene.producer.takeLease('run', holderOf('first'), null);
    await controller.replace('run', NO_ORDERS, cancelled);
    expect(await withdraw()).toBe(false);
    expect((await controller.find('run'))?.orders).toEqual(cancelled);
    await scene.passInSilence(RUN_LEASE_MS + 1_000);
    expect(await withdraw()).toBe(true);
    const second = await scene.anotherProducer();
    await second.takeLease('run', holderOf('second'), null);
    expect(await second.renewLease(holderOf('second'))).toEqual(PAUSED);
  });

  test('ends orders with the lease that is given back', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    await controller.replace('run', NO_ORDERS, PAUSED);
    await scene.producer.releaseLease();
    expect(await controller.find('run')).toBeNull();
    await scene.producer.takeLease('run', holderOf('second'), null);
    expect(await scene.producer.renewLease(holderOf('second'))).toEqual(NO_ORDERS);
  });

  test('keeps orders for the next start if a lease is given back so', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    await controller.replace('run', NO_ORDERS, PAUSED);
    await scene.producer.releaseLease({ keepsOrders: true });
    expect(await controller.find('run')).toBeNull();
    await scene.producer.takeLease('run', holderOf('second'), null);
    expect(await scene.producer.renewLease(holderOf('second'))).toEqual(PAUSED);
  });
}
