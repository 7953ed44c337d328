import { describe, expect, it } from 'vitest';
import {
  partsOf,
  twinsOf,
  wholeJobs,
  type WorkerShares,
} from '../../../../coordinator/plan/orders/job-parts.js';
import type { StepPlan } from '../../../../coordinator/plan/step-plan.js';
import { partWeightsOf } from '../../../../coordinator/training/gradient-aggregate.js';
import { WorkerPace } from '../../../../coordinator/training/worker-pace.js';
import { layoutOf } from '../../../fixtures/gradient-results.js';

/** A job of one task for each micro-batch, which has as many rows as it costs. */
function jobOf(jobIndex: number, costs: readonly number[]): StepPlan['jobs'][number] {
  const places = costs.map((_, place) => place);
  return {
    ...{ jobIndex, taskIndices: places, taskWeights: costs.map(() => 1), coldTaskWeights: null },
    ...{ drawnRows: null, neighbours: {}, layout: layoutOf([], []) },
    sizes: { bucketByTask: [], taskCounts: [], weights: [] },
    rowCount: costs.reduce((sum, cost) => sum + cost, 0),
    cut: costs.map((cost, place) => ({ taskPlaces: [place], rowCount: cost, cost })),
  };
}

/** 600 units of cost, of which the second job has 420. */
const plan = { jobs: [jobOf(0, [60]), jobOf(1, [150, 90, 90, 90]), jobOf(2, [120])] };
const workers = (count: number) => ({ workerCount: () => count });
const four: WorkerShares = {
  ...{ ...workers(4), msPerCost: 1, stepCount: 1 },
  carriesPartsOf: () => true,
};

function travelling(shares: WorkerShares): string[] {
  return partsOf(plan, shares).map(({ jobIndex, microBatches: range, taskPlaces, rowCount }) => {
    const part = range === null ? 'whole' : `${range.first}-${range.end} of ${range.count}`;
    return `${jobIndex} ${part} ${taskPlaces.join('+')} ${rowCount}`;
  });
}

describe('a job in parts', () => {
  it('leads with the micro-batches that fit into the share of a worker', () => {
    expect(travelling({ ...four, ...workers(2) })).toEqual([
      ...['0 whole 0 60', '1 0-2 of 4 0+1 240'],
      ...['2 whole 0 120', '1 2-3 of 4 2 90', '1 3-4 of 4 3 90'],
    ]);
    expect(travelling({ ...four, ...workers(3) })).toEqual([
      ...['0 whole 0 60', '1 0-1 of 4 0 150', '2 whole 0 120'],
      ...['1 1-2 of 4 1 90', '1 2-3 of 4 2 90', '1 3-4 of 4 3 90'],
    ]);
  });

  it('leads with one where none fits', () => {
    expect(travelling({ ...four, ...workers(10) })).toEqual(travelling({ ...four, ...workers(3) }));
  });

  it('has eight parts at most', () => {
    const jobs = [jobOf(0, Array<number>(20).fill(50))];
    const parts = partsOf({ jobs }, { ...four, ...workers(100) });
    expect(parts).toHaveLength(8);
    expect(parts[0]?.microBatches).toEqual({ first: 0, end: 13, count: 20, taskCount: 13 });
  });

  it('stays whole where it is one micro-batch', () => {
    const jobs = [jobOf(0, [900]), jobOf(1, [50])];
    expect(partsOf({ jobs }, four)).toEqual(wholeJobs({ jobs }));
  });

  it.each<[string, Partial<WorkerShares>]>([
    ['one worker computes', workers(1)],
    ['nobody has counted them', workers(0)],
    ['nobody knows how long jobs take', { msPerCost: null }],
    ['too little time is saved', { msPerCost: 14 / 270 }],
    ['outer steps that overlap fill the time', { stepCount: 3 }],
    ['their results are too large', { carriesPartsOf: (jobIndex: number) => jobIndex !== 1 }],
  ])('is not sent where %s', (_, departure) => {
    expect(partsOf(plan, { ...four, ...departure })).toEqual(wholeJobs(plan));
  });

  it('is sent where just enough time is saved', () => {
    // 420 units and a share of 150: 270 are saved, in 15 ms.
    expect(travelling({ ...four, msPerCost: 15 / 270 })).toHaveLength(6);
  });
});

it('weighs as much as its tasks', () => {
  const weighted = { ...jobOf(0, [60, 40]), taskWeights: [0.25, 0.5], coldTaskWeights: [0, 0.125] };
  const jobs = [weighted];
  expect(partWeightsOf({ jobs }, wholeJobs({ jobs }))).toEqual([0.875]);
  const parts = partsOf({ jobs }, { ...four, ...workers(2) });
  expect(partWeightsOf({ jobs }, parts)).toEqual([0.25, 0.625]);
});

describe('the pace of workers', () => {
  const results = (workers: readonly string[]) =>
    (async function* () {
      for (const [jobIndex, worker] of workers.entries())
        yield await Promise.resolve({ result: { worker, jobIndex, computeMs: 30 } });
    })();

  async function after(pace: WorkerPace, workers: readonly string[]): Promise<WorkerPace> {
    for await (const _ of pace.noted(results(workers), [100, 200]));
    return pace;
  }

  it('counts those that returned results, and divides their time by the cost', async () => {
    const pace = await after(new WorkerPace(), ['a', 'b']);
    // 60 ms for 300 units
    expect(pace).toMatchObject({ workerCount: 2, msPerCost: 0.2 });
    expect(await after(pace, ['b', 'b'])).toMatchObject({ workerCount: 1 });
    expect(pace.withConnected(3)).toBe(3);
    expect(pace.withConnected(2)).toBe(3);
    expect(pace.workerCount).toBe(3);
  });
});

describe('parts that compute the same', () => {
  const job = (jobIndex: number, taskIndices: readonly number[]) => ({
    ...jobOf(
      jobIndex,
      taskIndices.map(() => 90),
    ),
    taskIndices,
  });
  const twinsIn = (jobs: StepPlan['jobs'], share = 100): string[] =>
    [...twinsOf({ jobs }, partsOf({ jobs }, { ...four, ...workers(share) }))].map(
      ({ jobIndex, taskPlaces }) => `${jobIndex}: ${taskPlaces.join('+')}`,
    );

  it('are those of a task that was drawn twice', () => {
    expect(twinsIn([job(0, [3, 5, 3, 4])])).toEqual(['0: 0', '0: 2']);
    expect(twinsIn([job(0, [3]), job(1, [5]), job(2, [3])])).toEqual(['0: 0', '2: 0']);
  });

  it('have the same tasks, and the rows of the same job', () => {
    expect(twinsIn([job(0, [3, 5]), job(1, [3, 6])], 1)).toEqual([]);
    expect(twinsIn([job(0, [3, 5]), job(1, [3, 6])])).toEqual([]);
  });
});
