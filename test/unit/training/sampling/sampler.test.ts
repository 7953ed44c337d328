import { describe, expect, it } from 'vitest';
import {
  type DrawnTask,
  taskSampler,
  type SamplingRule,
} from '../../../../coordinator/plan/sampler.js';
import type { TaskEntry } from '../../../../shared/tasks/task-store.js';
import { tasksOf } from '../../../fixtures/sampled-tasks.js';

/** The tasks of a single outer step, from a new sampler. */
const sampleTasks = (
  seed: number,
  outerStep: number,
  tasks: readonly TaskEntry[],
  rule: SamplingRule,
): DrawnTask[] => taskSampler(seed, tasks, rule)(outerStep);

const indicesOf = (tasks: readonly DrawnTask[]): number[] => tasks.map((task) => task.taskIndex);

const rule: SamplingRule = {
  sampling: 'uniform',
  tasksPerOuterStep: 6,
};

it.each(['uniform', 'proportional', 'square-root', 'size-buckets'] as const)(
  'sampling depends only on seed and outer step, not on earlier calls: %s',
  (sampling) => {
    const tasks = tasksOf(Array.from({ length: 50 }, (_, place) => 2 + (place % 11)));
    const drawn = { ...rule, sampling };
    const sample = taskSampler(9, tasks, drawn);
    const steps = [40, 3, 0, 17, 3, 41];
    for (const outerStep of steps)
      expect(indicesOf(sample(outerStep))).toEqual(
        indicesOf(sampleTasks(9, outerStep, tasks, drawn)),
      );
    expect(indicesOf(sample(3))).not.toEqual(indicesOf(sample(4)));
    expect(indicesOf(sample(3))).not.toEqual(indicesOf(sampleTasks(10, 3, tasks, drawn)));
  },
);

describe('sequential sampling', () => {
  const inOrder: SamplingRule = {
    sampling: 'sequential',
    tasksPerOuterStep: 4,
  };

  it('reads the catalog in its order, pass after pass, and a step can end one pass and start the next', () => {
    const sample = taskSampler(1, tasksOf([9, 2, 7, 4, 3, 8]), inOrder);
    const places = [0, 1, 2, 3].map((outerStep) =>
      sample(outerStep)
        .map((task) => task.taskIndex - 100)
        .sort((a, b) => a - b),
    );
    expect(places).toEqual([
      [0, 1, 2, 3],
      [0, 1, 4, 5],
      [2, 3, 4, 5],
      [0, 1, 2, 3],
    ]);
  });
});
