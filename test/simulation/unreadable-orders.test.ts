/** Orders that a coordinator cannot read, over the queue in memory: its run goes on as it was ordered before. */

import { expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { ORDERS } from '../../coordinator/runs/control-run.js';
import { NO_ORDERS, UnreadableOrdersError, type RunOrders } from '../../shared/queue/run-orders.js';
import type { JobProducer } from '../../shared/queue/job-queue.js';
import { RUN_LEASE_MS } from '../../shared/queue/timing.js';
import { thisProcess } from '../../shared/storage/process-identity.js';
import type { LeaseHolder } from '../../shared/storage/lease.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { config, ControlScene, expectEqual, RUN, undisturbed } from './control-scene.js';
import { codeOf } from '../fixtures/told.js';

const PAUSED: RunOrders = { ...NO_ORDERS, isPaused: true };

function holderOf(start: string): LeaseHolder {
  return { start, process: thisProcess(), sinceMs: 0, beatMs: 0 };
}

class UnreadableScene extends ControlScene {
  /** The part of the orders that no coordinator of the scene can read; null if they can be read. */
  found: string | null = null;
  readonly beatsMs: number[] = [];

  constructor() {
    super();
    this.changeProducers((inner) => ({
      renewLease: async (holder) => {
        this.beatsMs.push(this.clock.monotonicMs());
        const orders = await inner.renewLease(holder);
        if (this.found === null) return orders;
        const { found } = this;
        throw new UnreadableOrdersError({ kind: 'environment', what: 'unreadable', found });
      },
    }));
  }

  changeProducers(changes: (inner: JobProducer) => Partial<JobProducer>): void {
    const open = this.queue.openProducer.bind(this.queue);
    this.queue.openProducer = async (start) => {
      const inner = await open(start);
      return { ...inner, ...changes(inner) };
    };
  }

  get toldCount(): number {
    return this.events.filter(({ event }) => codeOf(event) === 'orders-unreadable').length;
  }
}

// Seen to fail: the run ended with the error of the orders.
it('a run under way trains to its end, and tells of them once', async () => {
  const scene = new UnreadableScene();
  await scene.run(async () => {
    const trained = scene.train(config);
    void scene.sawStep(2).then(() => (scene.found = 'speed'));
    void scene.sawStep(5).then(() => (scene.found = 'mood'));
    expectEqual(await trained, await undisturbed());
  });
  expect(scene.toldCount).toBe(2);
});

// Seen to fail: the coordinator counted as silent, so that others removed its jobs.
it('a paused run stays paused and says that it lives', async () => {
  const scene = new UnreadableScene();
  await scene.run(async () => {
    const trained = scene.train(config);
    await scene.sawStep(2);
    await scene.order(ORDERS.pause);
    await scene.saw('run-paused');
    scene.found = 'speed';
    scene.beatsMs.length = 0;
    await scene.clock.sleep(120_000);
    expect(scene.beatsMs.length).toBeGreaterThan(2);
    expect(scene.kinds()).not.toContain('run-resumed');
    scene.found = null;
    await scene.order(ORDERS.resume);
    expectEqual(await trained, await undisturbed());
  });
  expect(scene.toldCount).toBe(1);
});

// Seen to fail: the lease was held until it ended by itself, or the orders ended with it.
it('a start that fails gives the lease back, and the next one hears the orders', async () => {
  const scene = new UnreadableScene();
  scene.changeProducers(() => ({ removeLeftovers: () => Promise.reject(new Error('refused')) }));
  const { clock, queue } = scene;
  await scene.run(async () => {
    const dead = await queue.openProducer('');
    await dead.takeLease(RUN, holderOf('dead'), null);
    const controller = await queue.openController();
    await controller.replace(RUN, NO_ORDERS, PAUSED);
    await clock.sleep(RUN_LEASE_MS + 1_000);
    const starting = createQueueDispatcher({
      ...{ queue, limits: queueConfig(), runId: RUN, nonce: 'first', clock },
      sink: () => undefined,
    });
    await expect(starting).rejects.toThrow('refused');
    const next = await queue.openProducer('');
    expect(await next.takeLease(RUN, holderOf('next'), null)).toMatchObject({ kind: 'taken' });
    expect(await next.renewLease(holderOf('next'))).toEqual(PAUSED);
  });
});
