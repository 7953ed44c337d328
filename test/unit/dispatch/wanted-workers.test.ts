import { expect, it } from 'vitest';
import { WantedWorkers } from '../../../coordinator/dispatch/demand/wanted-workers.js';
import type { RunEvent } from '../../../shared/events/run-events.js';

it('tells the jobs by pool when they change, and none at the end', () => {
  const told: RunEvent[] = [];
  const wanted = new WantedWorkers((event) => told.push(event));
  const jobs = (device: 'auto' | 'cpu' | 'gpu', count: number) =>
    Array.from({ length: count }, () => ({ job: { device } }));
  wanted.want([]);
  wanted.want(jobs('auto', 3));
  wanted.want(jobs('cpu', 3));
  wanted.want(jobs('gpu', 2));
  wanted.want([]);
  const of = (device: string, workerCount: number) => ({
    ...{ kind: 'workers-wanted', device, workerCount },
  });
  expect(told).toEqual([of('cpu', 3), of('cpu', 0), of('gpu', 2), of('gpu', 0)]);
});
