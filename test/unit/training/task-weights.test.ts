import { describe, expect, it } from 'vitest';
import {
  coldTaskWeightRuleOf,
  taskWeightRuleOf,
  taskWeightsOf,
} from '../../../coordinator/plan/task-weights.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';

function taskOf(support: readonly number[], query: readonly number[]): TaskRows {
  const impressions = Float32Array.from([...support, ...query]);
  return {
    taskIndex: 0,
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
    expect(taskWeightsOf(tasks, 'uniform')).toEqual([1 / 3, 1 / 3, 1 / 3]);
  });

  it('follow the query impressions, or their square roots', () => {
    expect(taskWeightsOf(tasks, 'examples')).toEqual([1 / 21, 4 / 21, 16 / 21]);
    expect(taskWeightsOf(tasks, 'sqrt')).toEqual([1 / 7, 2 / 7, 4 / 7]);
  });

  it('follow the impressions of all rows for the global method', () => {
    expect(taskWeightsOf(tasks, 'rows')).toEqual([4 / 40, 6 / 40, 30 / 40]);
  });

  it('weight pre-aggregated rows as the rows they represent', () => {
    const expanded = [taskOf([1, 1, 1], [1]), taskOf([1, 1], [1, 1, 1, 1])];
    const aggregated = [taskOf([3], [1]), taskOf([2], [4])];
    expect(taskWeightsOf(aggregated, 'examples')).toEqual(taskWeightsOf(expanded, 'examples'));
  });

  it('come from the config, except for the global method', () => {
    const training = { taskWeight: 'sqrt' };
    expect(taskWeightRuleOf(logisticConfig(training))).toBe('sqrt');
    expect(taskWeightRuleOf(logisticConfig(training, { kind: 'global' }))).toBe('rows');
  });

  it('of a cold term follow all rows by the same rule', () => {
    const training = { taskWeight: 'sqrt' };
    const method = { kind: 'fomaml', coldShare: 0.5 };
    expect(coldTaskWeightRuleOf(logisticConfig(training, method))).toBe('sqrt-rows');
    expect(coldTaskWeightRuleOf(logisticConfig(training))).toBeNull();
    // Square roots of 4, 9 and 25.
    const squares = [taskOf([3], [1]), taskOf([8], [1]), taskOf([9], [16])];
    expect(taskWeightsOf(squares, 'sqrt-rows')).toEqual([2 / 10, 3 / 10, 5 / 10]);
  });

  it('refuse to divide by zero', () => {
    expect(() => taskWeightsOf([taskOf([1], [0])], 'examples')).toThrow(/impressions/);
  });
});
