// Worked numbers: the losses of two jobs by size, from the worker's sums to the event and the page's means.

import { describe, expect, it, test } from 'vitest';
import { GrowingRunHistory } from '../../../coordinator/record/history/run-history.js';
import { measuredPart, sizeMeansOf } from '../../../coordinator/record/size-means.js';
import { growingViewOf, type RunView } from '../../../coordinator/record/run-view.js';
import { sizeDivisionOf } from '../../../coordinator/plan/job-sizes.js';
import { gradientReader } from '../../../coordinator/training/gradients/job-gradient.js';
import { bitsOf } from '../../../coordinator/trust/job-answers.js';
import { MetaGradientSum } from '../../../coordinator/training/meta-gradient-sum.js';
import { encodeEvent, parseEventLine } from '../../../shared/events/event-lines.js';
import type { StampedEvent, StampedEventOf } from '../../../shared/events/run-events.js';
import { SIZE_BUCKETS_MAX, type SizeLosses } from '../../../shared/events/size-losses.js';
import { sizeLossesOf } from '../../../shared/queue/blobs/gradient-losses.js';
import { deliveredOf, layoutOf, shapesFor, tensorsOf } from '../../fixtures/gradient-results.js';

const viewOf = (events: readonly StampedEvent[]): RunView => growingViewOf(events).view();

const division = sizeDivisionOf([30, 10, 30]);
const adgroup = (supportRowCount: number, weight: number) => ({
  ...{ supportRowCount, weight, isTrunk: false },
});
const trunk = { supportRowCount: 0, weight: 0.25, isTrunk: true };

describe('the buckets of a run', () => {
  it('are those of evaluations, and hold no batch of trunk rows', () => {
    expect(division.names).toEqual(['0-10', '11-30', '>30']);
    expect(division.of([adgroup(10, 0.125), trunk, adgroup(11, 0.25), adgroup(0, 0.375)])).toEqual({
      ...{ bucketByTask: [0, -1, 1, 0], taskCounts: [2, 1, 0], weights: [0.5, 0.25, 0] },
    });
  });

  it('are bounded: the last one takes what is larger', () => {
    const many = sizeDivisionOf(Array.from({ length: 40 }, (_, edge) => edge + 1));
    expect(many.names).toHaveLength(SIZE_BUCKETS_MAX);
    expect(many.names.at(-1)).toBe('>15');
    expect(many.of([adgroup(39, 1)]).bucketByTask).toEqual([SIZE_BUCKETS_MAX - 1]);
    expect(sizeDivisionOf([]).names).toEqual(['all']);
  });
});

describe('a worker', () => {
  const losses = {
    queryLosses: Float64Array.of(0.5, 9, 0.25, 0.75),
    supportLosses: Float64Array.of(0.75, 8, 0.5, 1),
    queryLossesBefore: null,
  };
  const work = { taskWeights: [0.125, 0.25, 0.25, 0.375], sizeBuckets: [0, -1, 1, 0] };

  it('adds weight times loss up by bucket', () => {
    // 0.125 * 0.5 + 0.375 * 0.75, and 0.25 * 0.25
    expect(sizeLossesOf(work, losses)).toEqual({
      query: [0.34375, 0.0625],
      support: [0.46875, 0.125],
    });
  });

  it('adds up the query losses before adaptation where it has them, and tells none that is not finite', () => {
    const before = (...queryLossesBefore: number[]) =>
      sizeLossesOf(work, { ...losses, queryLossesBefore: Float64Array.from(queryLossesBefore) });
    // 0.125 * 1 + 0.375 * 2, and 0.25 * 0.5
    expect(before(1, 7, 0.5, 2)).toEqual({
      ...{ query: [0.34375, 0.0625], support: [0.46875, 0.125], queryBefore: [0.875, 0.125] },
    });
    expect(before(1, 7, NaN, 2)).toEqual(sizeLossesOf(work, losses));
  });

  it('tells nothing that is not finite or was not asked for', () => {
    const diverged = { ...losses, supportLosses: Float64Array.of(Infinity, 0, 0, 0) };
    expect(sizeLossesOf(work, diverged)).toBeUndefined();
    expect(sizeLossesOf({ taskWeights: work.taskWeights }, losses)).toBeUndefined();
    expect(sizeLossesOf({ taskWeights: [1], sizeBuckets: [-1] }, losses)).toEqual({
      ...{ query: [], support: [] },
    });
  });
});

describe('an outer step', () => {
  const sizes = [
    division.of([adgroup(10, 0.125), adgroup(11, 0.25)]),
    division.of([adgroup(31, 0.5), trunk]),
  ];
  const shapes = { ...shapesFor([layoutOf([], []), layoutOf([], [])]), sizes };
  const read = gradientReader(shapes);
  const gradientOf = (jobIndex: number, query: number[], support = query) =>
    read(deliveredOf(jobIndex, tensorsOf([1, 1], []), { lossesBySize: { query, support } }));
  const stepLossesOf = (...gradients: ReturnType<typeof gradientOf>[]) => {
    const sum = new MetaGradientSum(shapes.spec);
    sum.begin(shapes.layouts);
    for (const gradient of gradients) {
      if (typeof gradient === 'string') throw new Error(`refused: ${gradient}`);
      sum.add(gradient);
    }
    if (gradients.length < 2) sum.closeWithoutMissing(0.375);
    return sum.losses;
  };
  const lossesOf = (...gradients: ReturnType<typeof gradientOf>[]) =>
    stepLossesOf(...gradients).bySize;

  it('has the sums of its jobs, and the counts and weights of its plan', () => {
    expect(
      lossesOf(gradientOf(1, [0, 0, 0.25]), gradientOf(0, [0.0625, 0.125], [0.125, 0.25])),
    ).toEqual({
      taskCounts: [1, 1, 1],
      weights: [0.125, 0.25, 0.5],
      queryLossSums: [0.0625, 0.125, 0.25],
      supportLossSums: [0.125, 0.25, 0.25],
    });
  });

  it('has the query loss before adaptation where every job has one', () => {
    const asked = (jobIndex: number, weightedQueryLossBefore: number, queryBefore: number[]) => {
      const query = queryBefore.map(() => 0.25);
      return read(
        deliveredOf(jobIndex, tensorsOf([1, 1], []), {
          weightedQueryLossBefore,
          lossesBySize: { query, support: query, queryBefore },
        }),
      );
    };
    const [first, second] = [asked(0, 0.375, [0.125, 0.25]), asked(1, 0.5, [0, 0, 0.25])];
    const whole = stepLossesOf(second, first);
    expect(whole.queryLossBefore).toBe(0.875);
    expect(whole.bySize?.queryLossBeforeSums).toEqual([0.125, 0.25, 0.25]);
    // The first job has the weight 0.375.
    const closed = stepLossesOf(first);
    expect(closed.queryLossBefore).toBe(1);
    expect(closed.bySize?.queryLossBeforeSums).toEqual([0.125 / 0.375, 0.25 / 0.375, 0]);
    const half = stepLossesOf(first, gradientOf(1, [0, 0, 0.25]));
    expect(half.queryLossBefore).toBeNull();
    expect(half.bySize?.queryLossBeforeSums).toBeUndefined();
    expect(half.bySize?.queryLossSums).toEqual([0.25, 0.25, 0.25]);
    expect(asked(1, 0.5, [0, 0])).toBe('layout_mismatch');
  });

  it('without a job is as if the others were all', () => {
    const losses = lossesOf(gradientOf(0, [0.0625, 0.125]));
    expect(losses?.taskCounts).toEqual([1, 1, 0]);
    expect(losses?.weights).toEqual([0.125 / 0.375, 0.25 / 0.375, 0]);
    expect(losses?.queryLossSums).toEqual([0.0625 / 0.375, 0.125 / 0.375, 0]);
  });

  it('of another worker is contradicted by other losses', () => {
    const { result } = deliveredOf(0, tensorsOf([1, 1], []), {
      lossesBySize: { query: [0.5], support: [0.5] },
    });
    expect(bitsOf(structuredClone(result))).toBe(bitsOf(result));
    const other = { query: [0.5], support: [0.25] };
    expect(bitsOf({ ...result, lossesBySize: other })).not.toBe(bitsOf(result));
    const before = { ...result, weightedQueryLossBefore: 0.5 };
    expect(bitsOf(before)).not.toBe(bitsOf(result));
    expect(bitsOf({ ...before, weightedQueryLossBefore: 0.25 })).not.toBe(bitsOf(before));
  });

  it('refuses losses of other buckets, and tells none where a result has none', () => {
    expect(gradientOf(0, [0.0625])).toBe('layout_mismatch');
    expect(gradientOf(0, [0.0625, 0.125, 0])).toBe('layout_mismatch');
    expect(gradientOf(0, [0.0625, 0.125], [0])).toBe('layout_mismatch');
    const silent = read(deliveredOf(0, tensorsOf([1, 1], [])));
    expect(lossesOf(silent, gradientOf(1, [0, 0, 0.25]))).toBeNull();
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
    expect(viewOf([stepOf(1, losses)]).training?.bySize).toEqual(sizeMeansOf(losses, null));
    expect(viewOf([stepOf(1)]).training?.bySize).toBeNull();
  });

  it('keeps the last query loss before adaptation beside the one after it', () => {
    const measured = { ...losses, queryLossBeforeSums: [0.75, 0] };
    const events = [{ ...stepOf(1, measured), queryLossBefore: 0.875 }, stepOf(2, losses)];
    expect(viewOf(events).training?.adaptation).toEqual({
      ...{ outerStep: 1, queryLossBefore: 0.875, queryLossAfter: 0.5 },
      bySize: [
        // 0.75 / 0.75, and what it fell by to 0.375 / 0.75
        {
          size: '0-10',
          taskCount: 3,
          queryLoss: 0.5,
          queryLossBefore: 1,
          gain: 0.5,
          supportLoss: 0.75,
        },
        { size: '>10', taskCount: 0, queryLoss: null, ...unmeasured, supportLoss: null },
      ],
    });
    expect(viewOf([stepOf(1, losses)]).training?.adaptation).toBeNull();
  });

  it('takes gains over the outer steps that measure, and losses over all', () => {
    const history = new GrowingRunHistory();
    for (let outerStep = 1; outerStep <= 90; outerStep += 1) {
      const told = { ...losses, queryLossSums: [outerStep * 0.75, 0] };
      const before = { ...told, queryLossBeforeSums: [(outerStep + 3) * 0.75, 0] };
      history.admit(
        outerStep % 2 === 0
          ? stepOf(outerStep, told)
          : { ...stepOf(outerStep, before), queryLossBefore: 2 },
      );
    }
    const { sizedSteps, series } = history.history;
    // Step 1 alone measures: 4 before, 1 after. Steps 1 and 2 have the mean loss 1.5.
    expect(sizedSteps[0]).toMatchObject({ firstOuterStep: 1, lastOuterStep: 2 });
    expect(sizedSteps[0]?.means[0]).toMatchObject({ queryLoss: 1.5, queryLossBefore: 4, gain: 3 });
    expect(series.queryLossBefore).toHaveLength(45);
    expect(series.adaptationGain[1]).toEqual({ x: 3, y: 1.5 });
    expect(measuredPart(losses)).toBeNull();
  });

  it('of an earlier version is read, and one with unlike columns is not', () => {
    for (const event of [stepOf(1), stepOf(2, losses)])
      expect(parseEventLine(encodeEvent(event))).toEqual(event);
    const shorter = { ...losses, weights: [1] };
    expect(() => parseEventLine(encodeEvent(stepOf(1, shorter)))).toThrow('not an event');
    const columns = Array.from({ length: SIZE_BUCKETS_MAX + 1 }, () => 0);
    const longer = {
      ...{ sizes: columns.map(String), taskCounts: columns, weights: columns },
      ...{ queryLossSums: columns, supportLossSums: columns },
    };
    expect(() => parseEventLine(encodeEvent(stepOf(1, longer)))).toThrow('not an event');
  });

  it('keeps means over bounded spans, and begins anew with other buckets or after a resume', () => {
    const history = new GrowingRunHistory();
    for (let outerStep = 1; outerStep <= 90; outerStep += 1)
      history.admit(stepOf(outerStep, { ...losses, queryLossSums: [outerStep * 0.75, 0] }));
    const { sizedSteps } = history.history;
    // Two steps a span from the 61st on: steps 1 and 2 have the mean loss 1.5.
    expect(sizedSteps).toHaveLength(45);
    expect(sizedSteps[0]).toMatchObject({ firstOuterStep: 1, lastOuterStep: 2, stepCount: 2 });
    expect(sizedSteps[0]?.means[0]).toEqual({
      ...{ size: '0-10', taskCount: 6, queryLoss: 1.5, ...unmeasured, supportLoss: 0.75 },
    });
    history.admit({
      ...{ kind: 'run-started', epochMs: 0, runId: 'r' },
      outerStep: 20,
      outerSteps: 500,
    });
    expect(history.history.sizedSteps.at(-1)?.lastOuterStep).toBe(20);
    history.admit(stepOf(21, { ...losses, sizes: ['0-5', '>5'] }));
    expect(history.history.sizedSteps).toHaveLength(1);
  });
});
