/** The contract of every job queue about the lease of a run. */

import { expect } from 'vitest';
import { RUN_LEASE_MS } from '../../shared/queue/timing.js';
import { thisProcess } from '../../shared/storage/process-identity.js';
import { RunFencedError, type LeaseAnswer, type LeaseHolder } from '../../shared/storage/lease.js';
import { jobOf, takenIds, type Test } from './job-queue-scene.js';

export function holderOf(start: string, beatMs = 0): LeaseHolder {
  return { start, process: thisProcess(), sinceMs: 0, beatMs };
}

function epochOf(answer: LeaseAnswer): number {
  if (answer.kind !== 'taken') throw new Error('the lease is held');
  return answer.epoch;
}

export function describeLeases(test: Test): void {
  test('gives the lease of a run to one start, and back with a larger epoch', async (scene) => {
    const [first, second] = [scene.producer, await scene.anotherProducer()];
    const epoch = epochOf(await first.takeLease('run', holderOf('first'), null));
    expect(epochOf(await first.takeLease('run', holderOf('first'), null))).toBe(epoch);
    expect(await second.takeLease('run', holderOf('second'), null)).toMatchObject({
      kind: 'held',
      holder: holderOf('first'),
    });
    expect(epochOf(await second.takeLease('other-run', holderOf('second'), null))).toBeGreaterThan(
      0,
    );
    await first.releaseLease();
    expect(epochOf(await second.takeLease('run', holderOf('second'), null))).toBeGreaterThan(epoch);
  });

  test('shows by another mark that the holder lives', async (scene) => {
    const second = await scene.anotherProducer();
    await scene.producer.takeLease('run', holderOf('first'), null);
    const markOf = async (): Promise<string> => {
      const answer = await second.takeLease('run', holderOf('second'), null);
      return answer.kind === 'held' ? answer.mark : '';
    };
    const mark = await markOf();
    expect(await markOf()).toBe(mark);
    await scene.producer.renewLease(holderOf('first', 1));
    const renewed = await markOf();
    expect(renewed).not.toBe(mark);
    expect((await second.takeLease('run', holderOf('second'), mark)).kind).toBe('held');
    expect((await second.takeLease('run', holderOf('second'), renewed)).kind).toBe('taken');
  });

  test('ends a lease that is not renewed, and renews it if nobody took it', async (scene) => {
    const [first, second] = [scene.producer, await scene.anotherProducer()];
    await first.takeLease('run', holderOf('first'), null);
    await scene.passInSilence(RUN_LEASE_MS + 1_000);
    await first.renewLease(holderOf('first', 1));
    expect((await second.takeLease('run', holderOf('second'), null)).kind).toBe('held');
    await scene.passInSilence(RUN_LEASE_MS + 1_000);
    expect((await second.takeLease('run', holderOf('second'), null)).kind).toBe('taken');
    await expect(first.renewLease(holderOf('first', 2))).rejects.toThrow(RunFencedError);
    await second.renewLease(holderOf('second', 1));
  });

  test('adds no job of a start that has lost its lease, and ignores its release', async (scene) => {
    const [first, second] = [scene.producer, await scene.anotherProducer()];
    const consumer = await scene.consumer();
    await first.takeLease('run', holderOf('first'), null);
    await first.add([{ jobId: 'early', job: jobOf(0) }]);
    expect(await takenIds(consumer, 1)).toEqual(['early']);
    await scene.passInSilence(RUN_LEASE_MS + 1_000);
    await first.add([{ jobId: 'nobody-took-it', job: jobOf(1) }]);
    await second.takeLease('run', holderOf('second'), null);
    const late = first.add([{ jobId: 'late', job: jobOf(2) }]);
    await expect(late).rejects.toThrow(RunFencedError);
    expect(await first.read('late')).toEqual({ state: 'gone' });
    await first.releaseLease();
    await second.renewLease(holderOf('second', 1));
    await second.add([{ jobId: 'second', job: jobOf(3) }]);
    expect(await takenIds(consumer, 2)).toEqual(['nobody-took-it', 'second']);
  });

  test('adds jobs of several calls at once under one lease', async (scene) => {
    await scene.producer.takeLease('run', holderOf('first'), null);
    const numbers = Array.from({ length: 20 }, (_, number) => number);
    await Promise.all(
      numbers.map((number) => scene.producer.add([{ jobId: `job-${number}`, job: jobOf(number) }])),
    );
    const consumer = await scene.consumer();
    expect(await takenIds(consumer, 20)).toEqual(numbers.map((number) => `job-${number}`));
  });

  test('removes waiting jobs of earlier epochs only', async (scene) => {
    for (const epoch of [1, 2, 3])
      await scene.producer.add([{ jobId: `of-epoch-${epoch}`, job: jobOf(0, { epoch }) }]);
    expect(await scene.producer.removeLeftovers('run', 2)).toBe(1);
    expect(await takenIds(await scene.consumer(), 2)).toEqual(['of-epoch-2', 'of-epoch-3']);
  });
}
