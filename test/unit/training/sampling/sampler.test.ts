import { describe, expect, it } from 'vitest';
import type { DrawnTask } from '../../../../coordinator/plan/row-draws.js';
import { taskSampler, type SamplingRule } from '../../../../coordinator/plan/sampler.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { TaskEntry } from '../../../../shared/tasks/task-store.js';
import { drawCounts, tasksOf } from '../../../fixtures/sampled-tasks.js';

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

describe('sampling', () => {
  it.each(['uniform', 'proportional', 'square-root', 'size-buckets'] as const)(
    'depends only on seed and outer step, not on earlier calls: %s',
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

  it('refuses to train without tasks', () => {
    expect(() => sampleTasks(1, 0, [], rule)).toThrow(QianmoError);
  });
});

describe('uniform sampling', () => {
  const tasks = tasksOf(Array.from({ length: 10 }, (_, place) => 2 + place));

  it('sees every task equally often: 5 outer steps of 6 are 3 epochs of 10', () => {
    expect(drawCounts(tasks, rule, 5)).toEqual(Array(10).fill(3));
  });

  it('never sees a task more than once more often than another', () => {
    for (let outerSteps = 1; outerSteps < 40; outerSteps += 1) {
      const counts = drawCounts(tasks, rule, outerSteps);
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
    }
  });

  it('orders each epoch differently', () => {
    const alone = { ...rule, tasksPerOuterStep: 1 };
    const sample = taskSampler(1, tasks, alone);
    const epochs = [0, 1].map((epoch) =>
      Array.from({ length: 10 }, (_, draw) => sample(epoch * 10 + draw)[0]?.taskIndex),
    );
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect([...(epochs[1] ?? [])].sort()).toEqual(tasks.map((task) => task.taskIndex));
  });

  it('draws more tasks than there are by starting the next epochs', () => {
    const counts = drawCounts(tasks, { ...rule, tasksPerOuterStep: 25 }, 2);
    expect(counts).toEqual(Array(10).fill(5));
  });
});

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

  it('does not depend on the seed', () => {
    const tasks = tasksOf([9, 2, 7, 4, 3, 8]);
    expect(sampleTasks(1, 5, tasks, inOrder)).toEqual(sampleTasks(2, 5, tasks, inOrder));
  });
});

describe('sampling by share', () => {
  const byRows: SamplingRule = {
    sampling: 'proportional',
    tasksPerOuterStep: 4,
  };

  it('draws by the square root of rows: 4 rows twice as often as 1, 9 three times', () => {
    const square: SamplingRule = {
      sampling: 'square-root',
      tasksPerOuterStep: 6,
    };
    expect(drawCounts(tasksOf([1, 4, 9]), square, 100)).toEqual([100, 200, 300]);
  });

  it('gives each non-empty bucket an equal share', () => {
    // Support rows 2, 3, 3 | none | 11, 12: of 12 draws 6 go to each bucket, so 2 2 2 | 3 3.
    const tasks = tasksOf([20, 20, 20, 20, 20], [2, 3, 3, 11, 12]);
    const buckets: SamplingRule = {
      sampling: 'size-buckets',
      tasksPerOuterStep: 12,
    };
    expect(drawCounts(tasks, buckets, 10)).toEqual([20, 20, 20, 30, 30]);
  });

  it('draws tasks in proportion to their rows', () => {
    const rowCounts = [1, 2, 3, 4, 10, 20, 60];
    const outerSteps = 4000;
    const counts = drawCounts(tasksOf(rowCounts), byRows, outerSteps);
    for (const [place, rowCount] of rowCounts.entries()) {
      // 16,000 draws. A draw count of one step is floor or ceiling of its mean, so its variance is
      // at most 1/4 and the standard error of the sum at most sqrt(4000) / 2 = 31.6; four of them.
      const expected = (rowCount / 100) * 4 * outerSteps;
      expect(Math.abs((counts[place] ?? 0) - expected)).toBeLessThan(4 * 31.6);
    }
  });

  it('draws a task as often as its share, rounded down or up, in every outer step', () => {
    const tasks = tasksOf([60, 20, 20]);
    const sample = taskSampler(4, tasks, byRows);
    for (let outerStep = 0; outerStep < 200; outerStep += 1) {
      const drawn = sample(outerStep);
      // 4 * 0.6 = 2.4 and 4 * 0.2 = 0.8
      expect([2, 3]).toContain(drawn.filter((task) => task.taskIndex === 100).length);
      expect([0, 1]).toContain(drawn.filter((task) => task.taskIndex === 101).length);
    }
  });
});
