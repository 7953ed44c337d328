/** The contract of every job queue about the cancellation of a run. */

import { expect } from 'vitest';
import { RUN_LEASE_MS } from '../../shared/queue/timing.js';
import { RunFencedError } from '../../shared/storage/lease.js';
import { holderOf } from './job-queue-leases.js';
import type { Test } from './job-queue-scene.js';

export function describeCancellations(test: Test): void {
  test('gives a cancellation to the run and the start that it names', async (scene) => {
    const controller = await scene.controller();
    expect(await controller.find('run')).toBeNull();
    await scene.producer.takeLease('run', holderOf('first'), null);
    expect(await controller.find('run')).toEqual(holderOf('first'));
    await controller.cancel('other-run', { start: 'first' });
    await controller.cancel('run', { start: 'earlier' });
    expect(await scene.producer.renewLease(holderOf('first'))).toBeNull();
    await controller.cancel('run', { start: 'first' });
    expect(await scene.producer.renewLease(holderOf('first'))).toMatchObject({ start: 'first' });
  });

  test('shows how far its holder says the run is', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    // A run of 0 outer steps is what it starts from.
    for (const outerSteps of [10, 0]) {
      const training = { outerStep: 0, outerSteps };
      const holder = { ...holderOf('first'), progress: { state: 'stopping', training } as const };
      await scene.producer.renewLease(holder);
      expect(await controller.find('run')).toEqual(holder);
      const other = await scene.anotherProducer();
      expect(await other.takeLease('run', holderOf('second'), null)).toMatchObject({ holder });
    }
  });

  test('says how the coordinator that had the lease ended', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    expect(await controller.endOf('run', 'first')).toBeNull();
    const training = { outerStep: 7, outerSteps: 9 };
    await scene.producer.releaseLease({ kind: 'cancelled', training });
    const end = { start: 'first', kind: 'cancelled', training };
    expect(await controller.endOf('run', 'first')).toEqual(end);
    const second = await scene.anotherProducer();
    await second.takeLease('run', holderOf('second'), null);
    expect(await controller.endOf('run', 'second')).toBeNull();
    expect(await controller.endOf('run', 'first')).toEqual(end);
  });

  test('passes no cancellation on from a dead coordinator to the next one', async (scene) => {
    const [first, second] = [scene.producer, await scene.anotherProducer()];
    const controller = await scene.controller();
    await first.takeLease('run', holderOf('first'), null);
    await controller.cancel('run', { start: 'first' });
    await scene.passInSilence(RUN_LEASE_MS + 1_000);
    expect(await controller.find('run')).toBeNull();
    await second.takeLease('run', holderOf('second'), null);
    expect(await second.renewLease(holderOf('second'))).toBeNull();
    await expect(first.renewLease(holderOf('first'))).rejects.toThrow(RunFencedError);
  });
}
