import { describe, expect, it } from 'vitest';
import { coldTaskWeightingOf, taskWeightsOf } from '../../../../coordinator/plan/step-plan.js';
import type { TaskRows } from '../../../../shared/tasks/task-store.js';
import { logisticConfig } from '../../../fixtures/training/training-run.js';

function taskOf(support: readonly number[], query: readonly number[], taskIndex = 0): TaskRows {
  const impressions = Float32Array.from([...support, ...query]);
  return {
    taskIndex,
    rowCount: impressions.length,
    supportRowCount: support.length,
    categoryIds: [],
    bagIds: [],
    numbers: [],
    clicks: new Float32Array(impressions.length),
    impressions,
    oracle: null,
    times: new Float64Array(impressions.length),
    logRows: new Float64Array(impressions.length),
  };
}

describe('task weights', () => {
  // Query impressions 1, 4 and 16 (in one, two and one rows); all rows 4, 4 + 2 = 6 and 30.
  const tasks = [taskOf([3], [1]), taskOf([2], [1, 3]), taskOf([7, 7], [16])];

  it('are equal when uniform', () => {
    expect(taskWeightsOf(tasks, { rule: 'uniform', rows: 'query' })).toEqual([1 / 3, 1 / 3, 1 / 3]);
  });

  it('follow the query impressions, or their square roots', () => {
    expect(taskWeightsOf(tasks, { rule: 'examples', rows: 'query' })).toEqual([
      1 / 21,
      4 / 21,
      16 / 21,
    ]);
    expect(taskWeightsOf(tasks, { rule: 'sqrt', rows: 'query' })).toEqual([1 / 7, 2 / 7, 4 / 7]);
  });

  it('follow the impressions of all rows for the global method', () => {
    expect(taskWeightsOf(tasks, { rule: 'rows', rows: 'all' })).toEqual([4 / 40, 6 / 40, 30 / 40]);
  });

  it('of a cold term follow all rows by the same rule', () => {
    const training = { taskWeight: 'sqrt' };
    const method = { kind: 'fomaml', coldShare: 0.5 };
    expect(coldTaskWeightingOf(logisticConfig(training, method))).toEqual({
      ...{ rule: 'sqrt-rows', rows: 'all' },
    });
    expect(coldTaskWeightingOf(logisticConfig(training))).toBeNull();
    // Square roots of 4, 9 and 25.
    const squares = [taskOf([3], [1]), taskOf([8], [1]), taskOf([9], [16])];
    expect(taskWeightsOf(squares, { rule: 'sqrt-rows', rows: 'all' })).toEqual([
      2 / 10,
      3 / 10,
      5 / 10,
    ]);
  });

  describe('of a batch of trunk rows', () => {
    const expectClose = (found: readonly number[], expected: readonly number[]): void => {
      for (const [place, weight] of expected.entries()) expect(found[place]).toBeCloseTo(weight);
    };
    // Query impressions 1, 4 and 16, and 14 in the batch; of all rows 4, 6, 30 and 14.
    const withBatch = [...tasks, taskOf([], [5, 9], 9)];
    const weigh = (weighting: Parameters<typeof taskWeightsOf>[1]): number[] =>
      taskWeightsOf(withBatch, weighting, (taskIndex) => taskIndex === 9);

    it('count as much an impression as the rows that the term reads of the other tasks', () => {
      // Three tasks of measure 1 have 21 query impressions: 1/7 an impression, and the batch 2.
      const uniform = weigh({ rule: 'uniform', rows: 'query' });
      expectClose(uniform, [1 / 5, 1 / 5, 1 / 5, 2 / 5]);
      // 1, 2 and 4 for 21 impressions: 1/3, and the batch 14/3.
      const roots = weigh({ rule: 'sqrt', rows: 'query' });
      expectClose(roots, [3 / 35, 6 / 35, 12 / 35, 14 / 35]);
      expect(weigh({ rule: 'examples', rows: 'query' })).toEqual(
        [1, 4, 16, 14].map((of) => of / 35),
      );
      expect(weigh({ rule: 'rows', rows: 'all' })).toEqual([4, 6, 30, 14].map((of) => of / 54));
      // Three tasks for 40 impressions.
      const cold = weigh({ rule: 'uniform', rows: 'all' });
      expect(cold[3]! / cold[0]!).toBeCloseTo((14 * 3) / 40);
    });

    it('are 0 in a term over support rows, of which it has none', () => {
      expect(weigh({ rule: 'support', rows: 'support' })).toEqual([3 / 19, 2 / 19, 14 / 19, 0]);
    });
  });
});
