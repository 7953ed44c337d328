// Counts of the rows of a divided task, which are known before its rows are. Seen to fail for a cut drawn
// from another stream, and for rows of a period counted as its support.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { storeOfPeriod } from '../../../coordinator/evaluation/divided-store.js';
import { periodsToReplay } from '../../../coordinator/evaluation/replay-periods.js';
import { EvaluationConfigSchema } from '../../../shared/config/evaluation-config.js';
import {
  dividedRowCounts,
  dividedTask,
  type CountedDivision,
} from '../../../shared/tasks/rows/row-division.js';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const store = tinyTaskStore({ taskCount: 12, counts: true, hasEmptySets: true });
const tasks = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));

/** A task with times that are neither sorted nor distinct. */
const timedTask = fc
  .tuple(
    fc.constantFrom(...tasks),
    fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 24, maxLength: 24 }),
  )
  .map(([task, times]): TaskRows => ({
    ...task,
    times: Float64Array.from(times.slice(0, task.rowCount)),
  }));

describe('row counts', () => {
  const countsOf = ({ taskIndex, rowCount, supportRowCount }: TaskRows) => ({
    ...{ taskIndex, supportRowCount },
    queryRowCount: rowCount - supportRowCount,
  });
  const counted = fc.oneof(
    fc.record({
      by: fc.constant('shots' as const),
      supportRowsMax: fc.integer({ min: 0, max: 15 }),
    }),
    fc.record({
      by: fc.constant('phases' as const),
      rowsPerPhase: fc.integer({ min: 1, max: 6 }),
      phase: fc.integer({ min: 0, max: 4 }),
    }),
    fc.record({
      by: fc.constant('draw' as const),
      draw: fc.integer({ min: 1, max: 20 }),
      seed: fc.integer({ min: 0, max: 1000 }),
      order: fc.constantFrom('hash' as const, 'time' as const),
    }),
  );

  test('follow from the counts of the store where the division does not ask for times', () => {
    fc.assert(
      fc.property(timedTask, counted, (task, division: CountedDivision) => {
        const divided = dividedTask(task, division);
        expect(dividedRowCounts(countsOf(task), division)).toEqual(countsOf(divided));
      }),
    );
  });

  test('of all periods follow from reading each task once', async () => {
    const threeTasks = fc.tuple(timedTask, timedTask, timedTask);
    await fc.assert(
      fc.asyncProperty(threeTasks, fc.integer({ min: 1, max: 3 }), async (timed, periodSeconds) => {
        const timedTasks = timed.map((task, taskIndex) => ({ ...task, taskIndex }));
        const read: number[] = [];
        const timedStore: TaskStore = {
          ...store,
          readTasks: (indices) => {
            read.push(...indices);
            return Promise.resolve(indices.flatMap((index) => timedTasks[index] ?? []));
          },
        };
        const evaluation = EvaluationConfigSchema.parse({ progressive: { periodSeconds } });
        const periods = await periodsToReplay(evaluation, timedStore, [0, 1, 2]);
        expect(read).toEqual([0, 1, 2]);
        for (const period of periods) {
          const { fromTime, beforeTime } = period;
          const { tasks: entries } = storeOfPeriod(timedStore, period);
          const divided = timedTasks
            .map((task) => countsOf(dividedTask(task, { by: 'time', fromTime, beforeTime })))
            .filter(({ queryRowCount }) => queryRowCount > 0);
          expect(period.taskIndices).toEqual(divided.map(({ taskIndex }) => taskIndex));
          for (const counts of divided) expect(entries[counts.taskIndex]).toMatchObject(counts);
        }
      }),
    );
  });
});
