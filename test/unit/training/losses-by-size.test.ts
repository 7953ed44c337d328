// Worked numbers: the losses of outer steps by size, from the plan's buckets to the page's means.

import { describe, expect, it, test } from 'vitest';
import { RunHistory, sizeName } from '../../../coordinator/record/run-history.js';
import {
  sizeMeansOf,
  SIZE_BUCKETS_MAX,
  type SizeLosses,
} from '../../../shared/events/size-losses.js';
import { reducedRun, type RunView } from '../../../shared/events/run-reducer.js';
import { sizeDivisionOf } from '../../../coordinator/plan/step-plan.js';
import type { StampedEvent, StampedEventOf } from '../../../shared/events/run-events.js';

const viewOf = (events: readonly StampedEvent[]): RunView => reducedRun(events).view();

const division = sizeDivisionOf([30, 10, 30]);
const adgroup = (supportRowCount: number) => ({ supportRowCount, isTrunk: false });
const trunk = { supportRowCount: 0, isTrunk: true };

describe('the buckets of a run', () => {
  it('are those of evaluations, and hold no batch of trunk rows', () => {
    expect(division.names).toEqual(['0-10', '11-30', '>30']);
    expect(division.of([adgroup(10), trunk, adgroup(11), adgroup(0)])).toEqual({
      ...{ bucketByTask: [0, -1, 1, 0], taskCounts: [2, 1, 0] },
    });
  });

  it('are bounded: the last one takes what is larger', () => {
    const many = sizeDivisionOf(Array.from({ length: 40 }, (_, edge) => edge + 1));
    expect(many.names).toHaveLength(SIZE_BUCKETS_MAX);
    expect(many.names.at(-1)).toBe('>15');
    expect(many.of([adgroup(39)]).bucketByTask).toEqual([SIZE_BUCKETS_MAX - 1]);
    expect(sizeDivisionOf([]).names).toEqual(['all']);
  });
});

const losses: SizeLosses = {
  sizes: ['0-10', '>10'],
  ...{ taskCounts: [3, 0], weights: [0.75, 0] },
  ...{ queryLossSums: [0.375, 0], supportLossSums: [0.5625, 0] },
};
const stepOf = (outerStep: number, bySize?: SizeLosses): StampedEventOf<'outer-step'> => ({
  ...{ kind: 'outer-step', epochMs: outerStep, outerStep, outerSteps: 500, queryLoss: 0.5 },
  ...{ supportLoss: 0.75, gradientNorm: 1, tasksPerSecond: 9 },
  ...(bySize === undefined ? {} : { bySize }),
});

const unmeasured = { queryLossBefore: null, gain: null };

describe('a record', () => {
  test('a bucket without tasks has no loss', () => {
    expect(sizeMeansOf(losses, null)).toEqual([
      { size: '0-10', taskCount: 3, queryLoss: 0.5, ...unmeasured, supportLoss: 0.75 },
      { size: '>10', taskCount: 0, queryLoss: null, ...unmeasured, supportLoss: null },
    ]);
  });

  test('what adaptation gains is the loss before it less that after it', () => {
    // 0.75 / 0.75, and what it fell by to 0.375 / 0.75
    expect(sizeMeansOf(losses, { ...losses, queryLossBeforeSums: [0.75, 0] })).toEqual([
      {
        ...{ size: '0-10', taskCount: 3, queryLoss: 0.5, supportLoss: 0.75 },
        queryLossBefore: 1,
        gain: 0.5,
      },
      { size: '>10', taskCount: 0, queryLoss: null, ...unmeasured, supportLoss: null },
    ]);
  });

  it('keeps the last query loss before adaptation beside the one after it', () => {
    const events = [{ ...stepOf(1, losses), queryLossBefore: 0.875 }, stepOf(2, losses)];
    expect(viewOf(events).training?.adaptation).toEqual({
      ...{ outerStep: 1, queryLossBefore: 0.875, queryLossAfter: 0.5 },
    });
    expect(viewOf([stepOf(1, losses)]).training?.adaptation).toBeNull();
  });

  it('keeps means over bounded spans, and forgets what a resumed run repeats', () => {
    const history = new RunHistory();
    for (let outerStep = 1; outerStep <= 90; outerStep += 1)
      history.admit(stepOf(outerStep, { ...losses, queryLossSums: [outerStep * 0.75, 0] }));
    // Two steps a span from the 61st on.
    expect(history.sizes.spans).toHaveLength(45);
    expect(history.sizes.spans[0]?.sums.get(sizeName('0-10', 'tasks'))).toEqual([6, 0]);
    history.admit({
      ...{ kind: 'run-started', epochMs: 0, runId: 'r' },
      outerStep: 20,
      outerSteps: 500,
    });
    expect(history.sizes.spans.at(-1)?.lastOuterStep).toBe(20);
    history.admit(stepOf(21, { ...losses, sizes: ['0-5', '>5'] }));
    expect(history.sizeNames).toEqual(['0-5', '>5']);
  });
});
