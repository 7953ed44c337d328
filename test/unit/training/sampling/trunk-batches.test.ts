// Batches of trunk rows are drawn beside the tasks: how often, in which order, and what stays as it was.
import { describe, expect, it } from 'vitest';
import { taskSampler, type SamplingRule } from '../../../../coordinator/plan/sampler.js';
import type { TaskEntry } from '../../../../shared/tasks/task-store.js';
import { tasksOf } from '../../../fixtures/sampled-tasks.js';

const batchesOf = (count: number): TaskEntry[] =>
  Array.from({ length: count }, (_, place) => ({
    ...{ taskIndex: 500 + place, key: `trunk rows ${place}`, split: 'trunk' },
    ...{ supportRowCount: 0, queryRowCount: 128, firstSeenTime: null },
  }));

const TASKS = tasksOf([9, 2, 7, 4, 3, 8, 5, 6]);
const rule: SamplingRule = {
  ...{ outerSteps: 1, sampling: 'uniform', tasksPerOuterStep: 2 },
};

function drawn(rules: SamplingRule, batchCount: number, outerStepCount: number, seed = 3) {
  const sample = taskSampler(seed, TASKS, rules, batchesOf(batchCount));
  return Array.from({ length: outerStepCount }, (_, outerStep) => {
    const indices = sample(outerStep).map(({ taskIndex }) => taskIndex);
    return {
      tasks: indices.filter((index) => index < 500),
      batches: indices.filter((index) => index >= 500),
    };
  });
}

describe('batches of trunk rows', () => {
  it('are read once while all tasks are, each at its own place', () => {
    // Two of eight tasks in an outer step, so a quarter of six batches: 1.5.
    const steps = drawn(rule, 6, 8);
    expect(steps.map(({ batches }) => batches.length)).toEqual([1, 2, 1, 2, 1, 2, 1, 2]);
    for (const epoch of [steps.slice(0, 4), steps.slice(4)])
      expect(new Set(epoch.flatMap(({ batches }) => batches)).size).toBe(6);
  });

  it('keep up with rows that are read more often by share', () => {
    // Query rows q and rows r = 2 q of two tasks, 1 and 9: by rows, one draw reads (1 + 81) / 10 of 10 rows.
    const tasks = tasksOf([2, 18]).map((task) => ({
      ...task,
      ...{ supportRowCount: task.queryRowCount === 1 ? 1 : 9 },
      ...{ queryRowCount: task.queryRowCount === 1 ? 1 : 9 },
    }));
    const sample = taskSampler(
      1,
      tasks,
      { ...rule, sampling: 'proportional', tasksPerOuterStep: 1 },
      batchesOf(50),
    );
    // 50 batches * 0.82.
    expect(sample(0).length).toBe(1 + 41);
  });
});
