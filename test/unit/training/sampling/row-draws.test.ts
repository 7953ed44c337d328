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
  rule: Pick<SamplingRule, 'rowsPerOuterStep' | 'inEpisodes' | 'inTime'>,
) => taskSampler(seed, tasks, { sampling: 'uniform', tasksPerOuterStep: 1, ...rule });

const rowNamesOf = (tasks: readonly TaskEntry[]): string[] =>
  tasks.flatMap(({ taskIndex, supportRowCount, queryRowCount }) =>
    Array.from({ length: supportRowCount + queryRowCount }, (_, row) => `${taskIndex}/${row}`),
  );

it('rows that are drawn are each read once in an epoch', () => {
  const given = fc.record({
    ...{ sizes, seed: fc.nat(99) },
    rowsPerOuterStep: fc.integer({ min: 1, max: 40 }),
  });
  fc.assert(
    fc.property(given, ({ sizes: pairs, seed, ...rule }) => {
      const tasks = tasksOfSizes(pairs);
      const all = rowNamesOf(tasks);
      // As many outer steps as epochs have rows: whole epochs.
      const draw = rowDrawer(seed, tasks, { ...rule, inEpisodes: false });
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

// Seen to fail: with the support rows of the store, with as many of them in each epoch, and with rows in the order of the store.
describe('episodes', () => {
  const episodesOf = (seed: number, tasks: readonly TaskEntry[], outerSteps: number) => {
    const draw = rowDrawer(seed, tasks, { rowsPerOuterStep: 1, inEpisodes: true });
    return Array.from({ length: outerSteps }, (_, outerStep) => draw(outerStep)).flat();
  };

  it('have each row once in an epoch, and at least one query row', () => {
    fc.assert(
      fc.property(sizes, fc.nat(99), (pairs, seed) => {
        // Each of these tasks is one episode.
        const tasks = tasksOfSizes(pairs);
        const drawn = episodesOf(seed, tasks, tasks.length);
        expect(namesOf(drawn).sort()).toEqual(rowNamesOf(tasks).sort());
        for (const { drawnRows = [], drawnSupportCount = -1, supportRowCount } of drawn) {
          expect(drawnSupportCount).toBeGreaterThanOrEqual(0);
          expect(drawnSupportCount).toBeLessThanOrEqual(2 * supportRowCount);
          expect(drawnSupportCount).toBeLessThan(drawnRows.length);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('have about 64 rows, other ones in each epoch, and none to twice as many support rows as their task', () => {
    const tasks = tasksOfSizes([[5, 125]]);
    const drawn = episodesOf(1, tasks, 200);
    expect(new Set(drawn.map(({ drawnRows = [] }) => drawnRows.length))).toEqual(new Set([65]));
    expect(new Set(drawn.map((episode) => namesOf([episode]).join()))).toHaveProperty('size', 200);
    const counts = new Set(drawn.map(({ drawnSupportCount = -1 }) => drawnSupportCount));
    expect([...counts].sort((a, b) => a - b)).toEqual(Array.from({ length: 11 }, (_, k) => k));
  });

  it('begin with their earliest rows where support rows are the earlier ones', () => {
    const draw = rowDrawer(1, tasksOfSizes([[5, 125]]), {
      ...{ rowsPerOuterStep: 1, inEpisodes: true, inTime: true },
    });
    const drawn = Array.from({ length: 40 }, (_, outerStep) => draw(outerStep)).flat();
    for (const { drawnRows = [] } of drawn)
      expect(drawnRows).toEqual([...drawnRows].sort((a, b) => a - b));
    expect(new Set(drawn.map((episode) => namesOf([episode]).join()))).toHaveProperty('size', 40);
  });

  it('have rows to predict, and often few support rows, where a task has more of these than fit', () => {
    // Episodes of 667 rows. Of the draws from 0 to 2,000 support rows, two thirds would leave a single row to predict.
    const drawn = episodesOf(1, tasksOfSizes([[1_000, 1_000]]), 300);
    const counts = drawn.map(({ drawnSupportCount = -1 }) => drawnSupportCount);
    expect(Math.max(...counts)).toBeLessThanOrEqual(444);
    expect(counts.filter((count) => count > 222).length).toBeGreaterThan(50);
    expect(counts.filter((count) => count <= 64).length).toBeGreaterThan(135);
    expect(counts.filter((count) => count <= 9).length).toBeGreaterThan(10);
  });

  it('are larger where a task has many support rows, as far as a leaf can name them', () => {
    const sizesOf = (support: number, query: number) =>
      new Set(
        episodesOf(1, tasksOfSizes([[support, query]]), 3).map(
          ({ drawnRows = [] }) => drawnRows.length,
        ),
      );
    expect(sizesOf(100, 500)).toEqual(new Set([300]));
    expect(sizesOf(1_000, 2_000)).toEqual(new Set([750]));
  });
});

describe('a sampler of rows', () => {
  const rule = {
    ...({ sampling: 'uniform', outerSteps: 10, tasksPerOuterStep: 2 } as const),
    ...{ rowsPerOuterStep: 2_000, inEpisodes: false },
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
    const draws = { ...rule, rowsPerOuterStep: 20 };
    const drawn = taskSampler(1, tasks, draws, [batch])(0);
    expect(
      new Map(drawn.map(({ taskIndex, drawnRows }) => [taskIndex, drawnRows?.length])),
    ).toEqual(
      new Map([
        [100, 8],
        [7, 12],
      ]),
    );
  });
});
