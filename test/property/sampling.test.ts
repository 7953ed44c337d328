/** Expected draws of every sampling rule, each compared with an independent formula. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type SamplingRule, taskSampler } from '../../coordinator/plan/sampler.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { drawCounts, tasksOf } from '../fixtures/sampled-tasks.js';

/** [support rows, query rows] of each task. */
const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1, max: 60 })), {
  minLength: 1,
  maxLength: 40,
});
const drawn = fc.record({ sizes, drawCount: fc.integer({ min: 1, max: 50 }), seed: fc.nat(1000) });
/** The edges in support rows that `evaluate` uses by default. */
const EDGES = [10, 30, 100, 300];

const sizedTasks = (pairs: readonly (readonly [number, number])[]): TaskEntry[] =>
  tasksOf(
    pairs.map(([support, query]) => support + query),
    pairs.map(([support]) => support),
  );

type RuleName = 'proportional' | 'square-root' | 'size-buckets';

/** Expected draws per draw, by definition; sums to 1. */
function shareOf(rule: RuleName, tasks: readonly TaskEntry[], of: TaskEntry): number {
  const rows = (task: TaskEntry): number => task.supportRowCount + task.queryRowCount;
  const part = (measure: (task: TaskEntry) => number): number =>
    measure(of) / tasks.reduce((sum, task) => sum + measure(task), 0);
  if (rule === 'proportional') return part(rows);
  if (rule === 'square-root') return part((task) => rows(task) ** 0.5);
  const bounds = [0, ...EDGES, Infinity];
  const buckets = bounds
    .slice(1)
    .map((edge, index) =>
      tasks.filter((t) => t.supportRowCount > (bounds[index] ?? 0) && t.supportRowCount <= edge),
    )
    .filter((bucket) => bucket.length > 0);
  const own = buckets.find((bucket) => bucket.includes(of));
  return 1 / buckets.length / (own?.length ?? 0);
}

const ruleOf = (sampling: SamplingRule['sampling'], drawCount: number): SamplingRule => ({
  sampling,
  tasksPerOuterStep: drawCount,
});

describe.each<RuleName>(['proportional', 'square-root', 'size-buckets'])('%s sampling', (name) => {
  it('draws a task as often as expected, rounded down or up, in every outer step', () => {
    fc.assert(
      fc.property(drawn, fc.nat(5000), (given, outerStep) => {
        const tasks = sizedTasks(given.sizes);
        const sample = taskSampler(given.seed, tasks, ruleOf(name, given.drawCount));
        const chosen = sample(outerStep);
        expect(chosen).toHaveLength(given.drawCount);
        for (const task of tasks) {
          const expected = given.drawCount * shareOf(name, tasks, task);
          const count = chosen.filter(({ taskIndex }) => taskIndex === task.taskIndex).length;
          expect(count).toBeGreaterThanOrEqual(Math.floor(expected + 1e-9));
          expect(count).toBeLessThanOrEqual(Math.ceil(expected - 1e-9));
        }
      }),
    );
  });

  it('draws tasks as often as expected over many outer steps', () => {
    const tasks = sizedTasks([
      [1, 1],
      [3, 40],
      [5, 2],
      [6, 9],
      [21, 20],
      [80, 1],
      [90, 60],
    ]);
    const outerSteps = 2000;
    for (const [place, count] of drawCounts(tasks, ruleOf(name, 3), outerSteps).entries()) {
      const task = tasks[place];
      if (task === undefined) continue;
      // Within a step the count is one of two adjacent integers, so its variance is at most 1/4.
      const deviation = Math.sqrt(outerSteps / 4);
      const expected = outerSteps * 3 * shareOf(name, tasks, task);
      expect(Math.abs(count - expected)).toBeLessThan(4 * deviation);
    }
  });
});

describe.each(['uniform', 'sequential'] as const)('%s sampling', (name) => {
  it('has drawn every task equally often after whole epochs, and never with a difference of two before', () => {
    fc.assert(
      fc.property(drawn, fc.integer({ min: 1, max: 60 }), (given, outerSteps) => {
        const tasks = sizedTasks(given.sizes);
        const rule = ruleOf(name, given.drawCount);
        const counts = drawCounts(tasks, rule, outerSteps, given.seed);
        const drawTotal = outerSteps * given.drawCount;
        for (const count of counts) {
          expect(count).toBeGreaterThanOrEqual(Math.floor(drawTotal / tasks.length));
          expect(count).toBeLessThanOrEqual(Math.ceil(drawTotal / tasks.length));
        }
      }),
    );
  });
});
