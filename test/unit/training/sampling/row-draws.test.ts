import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type DrawnTask,
  type SamplingRule,
  taskSampler,
} from '../../../../coordinator/plan/sampler.js';
import type { TaskEntry } from '../../../../shared/tasks/task-store.js';
import { tasksOf } from '../../../fixtures/sampled-tasks.js';

const sizes = fc.array(fc.tuple(fc.nat(6), fc.integer({ min: 1, max: 9 })), {
  minLength: 1,
  maxLength: 20,
});
const tasksOfSizes = (pairs: readonly (readonly [number, number])[]) =>
  tasksOf(
    pairs.map(([support, query]) => support + query),
    pairs.map(([support]) => support),
  );

/** `task/row` of each drawn row. */
const namesOf = (drawn: readonly DrawnTask[]): string[] =>
  drawn.flatMap(({ taskIndex, drawnRows = [] }) => drawnRows.map((row) => `${taskIndex}/${row}`));

const rowDrawer = (
  seed: number,
  tasks: readonly TaskEntry[],
  rule: Pick<SamplingRule, 'rowsPerOuterStep' | 'keepsSupport'>,
) => taskSampler(seed, tasks, { sampling: 'uniform', tasksPerOuterStep: 1, ...rule });

describe('rows that are drawn', () => {
  it('are each read once in an epoch, and only query rows where tasks keep their support', () => {
    const given = fc.record({
      ...{ sizes, seed: fc.nat(99), keepsSupport: fc.boolean() },
      rowsPerOuterStep: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(given, ({ sizes: pairs, seed, ...rule }) => {
        const tasks = tasksOfSizes(pairs);
        const all = tasks.flatMap(({ taskIndex, supportRowCount, queryRowCount }) =>
          Array.from({ length: supportRowCount + queryRowCount }, (_, row) => row)
            .filter((row) => !rule.keepsSupport || row >= supportRowCount)
            .map((row) => `${taskIndex}/${row}`),
        );
        // As many outer steps as epochs have rows: whole epochs.
        const draw = rowDrawer(seed, tasks, rule);
        const counts = new Map<string, number>();
        for (let outerStep = 0; outerStep < all.length; outerStep += 1) {
          const names = namesOf(draw(outerStep));
          expect(names).toHaveLength(rule.rowsPerOuterStep);
          for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
        }
        expect(counts).toEqual(new Map(all.map((name) => [name, rule.rowsPerOuterStep])));
      }),
      { numRuns: 60 },
    );
  });
});

describe('a sampler of rows', () => {
  const rule = {
    ...({ sampling: 'uniform', outerSteps: 10, tasksPerOuterStep: 2 } as const),
    rowsPerOuterStep: 2_000,
  };

  it('names a task again where more of its rows are drawn than a leaf can name', () => {
    const tasks = tasksOfSizes([[3, 2_000]]);
    const drawn = taskSampler(1, tasks, { ...rule, rowsPerOuterStep: 1_600 })(0);
    expect(drawn.map((task) => namesOf([task]).length).sort()).toEqual([64, 768, 768]);
    expect(new Set(namesOf(drawn)).size).toBe(1_600);
  });

  it('draws rows of trunk batches as often as others', () => {
    const tasks = tasksOfSizes([[2, 6]]);
    const batch = {
      ...{ ...tasks[0]!, taskIndex: 7, split: 'trunk' as const },
      ...{ supportRowCount: 0, queryRowCount: 12 },
    };
    const draws = { ...rule, rowsPerOuterStep: 18, keepsSupport: true };
    const drawn = taskSampler(1, tasks, draws, [batch])(0);
    expect(
      new Map(drawn.map(({ taskIndex, drawnRows }) => [taskIndex, drawnRows?.length])),
    ).toEqual(
      new Map([
        [100, 6],
        [7, 12],
      ]),
    );
  });
});
