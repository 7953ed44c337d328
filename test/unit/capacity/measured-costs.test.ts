/** Costs from measured steps: lines through jobs, the spread around them, and what a worker idles. */

import { describe, expect, test } from 'vitest';
import { predicted } from '../../../coordinator/capacity/capacity-plan.js';
import {
  measuredCosts,
  stepMsOf,
  type PlannedMeasuredStep,
} from '../../../coordinator/capacity/measured-costs.js';
import { fittedCost } from '../../../coordinator/capacity/step-costs.js';
import type { DivisibleJob } from '../../../coordinator/plan/orders/job-parts.js';
import { alikeSteps, jobOfCosts } from './planned-jobs.js';

const pointsOf = (...points: readonly [number, number][]) =>
  points.map(([rowCount, cost]) => ({ rowCount, cost }));

describe('a line through measured jobs', () => {
  test('is that of least squares', () => {
    expect(fittedCost(pointsOf([8, 10], [2, 4]))).toEqual({ perJob: 2, perRow: 1 });
    // Means 3 and 4; the products of deviations are 2 + 0 + 6 and their squares 8 together.
    expect(fittedCost(pointsOf([1, 3], [3, 2], [5, 7]))).toEqual({ perJob: 1, perRow: 1 });
  });

  test('has no part below 0, and gives all jobs together what they cost', () => {
    expect(fittedCost(pointsOf([4, 8], [1, 1]))).toEqual({ perJob: 0, perRow: 9 / 5 });
    expect(fittedCost(pointsOf([4, 1], [1, 3]))).toEqual({ perJob: 2, perRow: 0 });
    expect(fittedCost(pointsOf([2, 6], [2, 8]))).toEqual({ perJob: 0, perRow: 3.5 });
    expect(fittedCost(pointsOf([0, 6], [0, 8]))).toEqual({ perJob: 7, perRow: 0 });
  });
});

/** Jobs that take 2 ms, and 1 ms for each row, times a factor. */
function stepOf(
  planned: readonly DivisibleJob[],
  { factor = 1, outerStep = 0, dispatchMs = 200 } = {},
): PlannedMeasuredStep {
  return {
    ...{ outerStep, planned, dispatchMs, processorMs: 2, othersProcessorMs: 24, serialMs: 5 },
    denseByteCount: 100,
    jobs: planned.map(({ jobIndex, rowCount }) => ({
      ...{ jobIndex, computeMs: factor * (2 + rowCount) },
      ...{ inputByteCount: 10 + 2 * rowCount, outputByteCount: 20 + 4 * rowCount },
    })),
  };
}

/** Two jobs, of which the second has two micro-batches; and the same work in four jobs. */
const first = [jobOfCosts(0, [20]), jobOfCosts(1, [60, 40])];
const second = [jobOfCosts(0, [20]), jobOfCosts(1, [40]), jobOfCosts(2, [30]), jobOfCosts(3, [30])];

describe('costs from measured steps', () => {
  test('are lines in the rows of jobs', () => {
    const costs = measuredCosts([[stepOf(first)], [stepOf(second)]], 100);
    expect(costs.computeMs.perJob).toBeCloseTo(2, 9);
    expect(costs.computeMs.perRow).toBeCloseTo(1, 9);
    expect(costs.inputByteCount.perRow).toBeCloseTo(2, 9);
    expect(costs.outputByteCount.perJob).toBeCloseTo(20, 9);
    // A step has 24 ms in two jobs of 60 rows, or in four of 30: 12 and 6 ms a job.
    expect(costs.processorMs).toEqual({ perJob: 0, perRow: 0.2 });
    expect(costs.serialMs).toBe(5);
    for (const ratio of costs.computeSpread) expect(ratio).toBeCloseTo(1, 9);
  });

  test('give back the measured time of a step with one worker', () => {
    const steps = [stepOf(first), stepOf(first, { dispatchMs: 190 }), stepOf(first)];
    const costs = measuredCosts([steps, [stepOf(second)]], 100);
    expect(stepMsOf(steps)).toBe(205);
    const planned = alikeSteps(() => first);
    const shape = { workerCount: 1, jobSize: 8, steps: [first] };
    expect(predicted(costs, planned, shape).stepMs).toBeCloseTo(205, 1);
  });

  test('have a line for the time in which the worker is idle', () => {
    // The coordinator has 1 ms for 60 rows. The first step sends 100 rows in 0.83 ms, takes 20 in 0.17 and computes for
    // 124 ms, so two jobs of 60 rows are idle for 75 of 200 ms. The second sends 40 in 0.33 ms, takes 30 in 0.25 and
    // computes for 128 ms, so four jobs of 30 rows are idle for 110 of 238.58 ms.
    const idleOf = (dispatchMs: number) => {
      const both = [[stepOf(first)], [stepOf(second, { dispatchMs })]] as const;
      return measuredCosts([both[0], both[1]], 1e9).idleMs;
    };
    expect(idleOf(238.58).perRow).toBeCloseTo((37.5 - 27.5) / 30, 3);
    expect(idleOf(238.58).perJob).toBeCloseTo(37.5 - 20, 1);
    // A job of no rows would be idle for less than nothing, or jobs for less the more rows they have.
    expect(idleOf(171)).toEqual({ perJob: 0, perRow: expect.closeTo(37.5 / 60, 3) as number });
    expect(idleOf(300)).toEqual({ perJob: expect.closeTo(37.5, 1) as number, perRow: 0 });
  });

  test('tell the time of a single job from that of a step', () => {
    const alone = [jobOfCosts(0, [60])];
    const costs = measuredCosts([[stepOf(alone)], [stepOf(second)]], 1e9);
    const shape = { workerCount: 1, jobSize: 8, steps: [alone] };
    expect(
      predicted(
        costs,
        alikeSteps(() => alone),
        shape,
      ).stepMs,
    ).toBeCloseTo(205, 1);
  });

  test('take no notice of a step in which the worker still prepared graphs', () => {
    const steps = [stepOf(first), stepOf(first, { factor: 50 }), stepOf(first)];
    const costs = measuredCosts([steps, [stepOf(second)]], 100);
    expect(costs.computeMs.perRow).toBeCloseTo(1, 9);
  });

  test('spread as milliseconds do, around 1', () => {
    // Half of the time of computing was 0.8 times the line and half of it 1.2 times.
    const steps = [stepOf(first, { factor: 0.8 }), stepOf(first, { factor: 1.2 })];
    const { computeSpread } = measuredCosts([steps, [stepOf(second)]], 100);
    expect(computeSpread).toHaveLength(64);
    const sum = computeSpread.reduce((total, ratio) => total + ratio, 0);
    expect(sum / 64).toBeCloseTo(1, 9);
    expect(computeSpread.at(0)).toBeCloseTo(0.8, 9);
    expect(computeSpread.at(31)).toBeCloseTo(0.8, 9);
    expect(computeSpread.at(32)).toBeCloseTo(1.2, 9);
  });

  test('spread by milliseconds of computing, and not by jobs', () => {
    const slow = stepOf(first);
    const jobs = slow.jobs.map((job) => (job.jobIndex === 0 ? { ...job, computeMs: 44 } : job));
    const steps = [stepOf(first), { ...slow, jobs }, stepOf(first)];
    const { computeSpread } = measuredCosts([steps, [stepOf(second)]], 100);
    // One job in six took twice its 22 ms, of 372 ms: 3.8 of 64 quantiles.
    expect(computeSpread.filter((ratio) => ratio > 1.5)).toHaveLength(4);
  });

  test('leave out jobs that were not planned', () => {
    const step = stepOf(first);
    const foreign = { ...step, jobs: [...step.jobs, { ...step.jobs[0]!, jobIndex: 7 }] };
    expect(measuredCosts([[foreign], [stepOf(second)]], 100)).toEqual(
      measuredCosts([[step], [stepOf(second)]], 100),
    );
  });
});
