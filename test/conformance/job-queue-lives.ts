/** The contract of every job queue about workers and coordinators that say they live, and then fall silent. */

import { expect } from 'vitest';
import { WORKER_SILENCE_MS_MAX } from '../../shared/queue/timing.js';
import type { WorkerReport } from '../../shared/queue/job-queue.js';
import type { Test } from './job-queue-scene.js';

export function describeWorkers(test: Test): void {
  test('lists the workers, and counts them for each of them', async (scene) => {
    expect(await scene.producer.workers()).toEqual([]);
    const [a, b] = [await scene.consumer('a'), await scene.consumer('b')];
    expect([a.name, b.name]).toEqual(['a', 'b']);
    expect(await scene.workerNames()).toEqual(['a', 'b']);
    expect(await a.beat('job-7')).toBe(2);
    const workers = await scene.producer.workers();
    expect(await (await scene.controller()).workers()).toEqual(workers);
    const [first] = workers.filter(({ name }) => name === 'a');
    expect(first).toEqual({
      ...{ name: 'a', instance: 'nonce-0', device: 'cpu', jobId: 'job-7', report: null },
      sinceMs: expect.any(Number) as number,
    });
    await a.close();
    await scene.until(async () => (await b.beat(null)) === 1);
    expect(await scene.workerNames()).toEqual(['b']);
  });

  test('tells what a worker said about itself last, as long as it lives', async (scene) => {
    const said: (WorkerReport | null)[] = [
      { device: null, ...{ residentByteCount: 90, computeResidentByteCount: null } },
      {
        device: { kind: 'gpu', model: 'NVIDIA H100', memoryMiB: 81_559, fingerprint: null },
        ...{ residentByteCount: 100, computeResidentByteCount: 400 },
      },
    ];
    const [first, second] = said;
    const telling = await scene.consumer('telling', () => said.shift() ?? null);
    await scene.consumer('silent');
    const controller = await scene.controller();
    const reports = async () =>
      Object.fromEntries((await controller.workers()).map(({ name, report }) => [name, report]));
    expect(await reports()).toEqual({ telling: first, silent: null });
    await telling.beat(null);
    expect(await reports()).toEqual({ telling: second, silent: null });
    await telling.close();
    await scene.until(async () => (await scene.workerNames()).length === 1);
    expect(await reports()).toEqual({ silent: null });
  });

  test('gives workers of one name different names', async (scene) => {
    const names: string[] = [];
    for (let count = 1; count <= 3; count += 1) names.push((await scene.consumer('same')).name);
    expect(names).toEqual(['same', 'same-2', 'same-3']);
    expect(await scene.workerNames()).toEqual(names);
    const third = await scene.consumer('other');
    expect(await third.beat(null)).toBe(4);
  });

  test('forgets a silent worker, until it says that it lives', async (scene) => {
    const [silent, live] = [await scene.consumer('silent'), await scene.consumer('live')];
    await scene.passInSilence(WORKER_SILENCE_MS_MAX + 1_000);
    expect(await live.beat(null)).toBe(1);
    expect(await scene.workerNames()).toEqual(['live']);
    expect(await silent.beat(null)).toBe(2);
    expect(await scene.workerNames()).toEqual(['live', 'silent']);
  });
}
