import { expect, it } from 'vitest';
import { WantedWorkers } from '../../../coordinator/dispatch/worker-health.js';
import type { RunEvent } from '../../../shared/events/run-events.js';

const PREDICT = {
  kind: 'predict' as const,
  ...{ method: { kind: 'global' as const }, adaptations: [], rows: 'query' as const },
};

it('tells the jobs and leaves by pool when they change, and none at the end', () => {
  const told: RunEvent[] = [];
  const wanted = new WantedWorkers((event) => told.push(event));
  const jobs = (device: 'auto' | 'cpu' | 'gpu', count: number) =>
    Array.from({ length: count }, () => ({ job: { device, work: PREDICT } }));
  const shape: [number, number, number, number, number] = [1, 4, 8, 8, 64];
  const leaves = { first: 0, stepLeafCount: 16, shapes: Array.from({ length: 8 }, () => shape) };
  const method = { kind: 'global' as const };
  const work = { kind: 'gradient' as const, method, taskWeights: [1], leaves };
  wanted.want([]);
  wanted.want(jobs('auto', 3));
  wanted.want(jobs('cpu', 3));
  wanted.want(jobs('gpu', 2));
  wanted.want([{ job: { device: 'gpu', work } }]);
  wanted.want([]);
  const of = (device: string, workerCount: number) => ({
    ...{ kind: 'workers-wanted', device, workerCount },
  });
  expect(told).toEqual([of('cpu', 3), of('cpu', 0), of('gpu', 2), of('gpu', 8), of('gpu', 0)]);
});
