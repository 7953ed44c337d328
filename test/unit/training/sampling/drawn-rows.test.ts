import { describe, expect, it } from 'vitest';
import {
  drawnPart,
  withDrawnRows,
  withPlannedDrawnRows,
} from '../../../../shared/tasks/chosen-rows.js';
import { tinyTaskStore } from '../../../fixtures/stores/tiny-task-store.js';

const store = tinyTaskStore({
  ...{ taskCount: 3, supportRowCountMax: 4, queryRowCountMax: 6 },
  bags: [{ rowCount: 9, lengthMax: 3 }],
});
const tasks = (await store.readTasks([0, 1, 2])).filter(({ rowCount }) => rowCount >= 4);
const [task] = tasks;
if (task === undefined || task.supportRowCount < 1) throw new Error('the store has such a task');
const { supportRowCount: support, rowCount } = task;

describe('withDrawnRows', () => {
  it('has the drawn rows alone, support rows first, and a row twice that was drawn twice', () => {
    const places = [0, support, support, rowCount - 1];
    const [drawn] = withDrawnRows([task], { byTask: [places], keepsSupport: false });
    expect(drawn).toMatchObject({ rowCount: 4, supportRowCount: 1 });
    expect([...drawn!.logRows]).toEqual(places.map((place) => task.logRows[place]));
    expect([...drawn!.numbers[0]!]).toEqual(places.map((place) => task.numbers[0]![place]));
    expect([...drawn!.bagIds[0]!]).toEqual(
      places.flatMap((place) => [...task.bagIds[0]!.subarray(place * 3, place * 3 + 3)]),
    );
  });

  it('has all support rows before the drawn ones where tasks adapt', () => {
    const byTask = [[rowCount - 1]];
    const [drawn] = withDrawnRows([task], { byTask, keepsSupport: true });
    expect(drawn).toMatchObject({ rowCount: support + 1, supportRowCount: support });
    expect([...drawn!.clicks.subarray(0, support)]).toEqual([...task.clicks.subarray(0, support)]);
    expect(drawn!.clicks[support]).toBe(task.clicks[rowCount - 1]);
  });

  it('keeps the tasks apart, and plans what it reads', () => {
    const byTask = tasks.map((each, index) => [each.supportRowCount + (index % 2)]);
    const drawn = withDrawnRows(tasks, { byTask, keepsSupport: true });
    const planned = withPlannedDrawnRows(tasks, { byTask, keepsSupport: true });
    for (const [index, each] of drawn.entries()) {
      expect(each.logRows.at(-1)).toBe(tasks[index]!.logRows[byTask[index]![0]!]);
      const { taskIndex, supportRowCount, categoryIds, bagIds, impressions } = each;
      expect(planned[index]).toEqual({
        ...{ taskIndex, supportRowCount, categoryIds, bagIds, impressions },
      });
    }
  });

  it.each([
    ['a row beyond the last', [rowCount], String(rowCount)],
    ['no row', [], 'none'],
  ])('refuses %s', (_, places, found) => {
    const report: unknown = expect.objectContaining({ where: 'task 0', found });
    expect(() => withDrawnRows([task], { byTask: [places], keepsSupport: false })).toThrow(
      expect.objectContaining({ report }),
    );
  });
});

it('a part of a column has the drawn support rows and the query rows that end it', () => {
  const column = Float32Array.from([10, 11, 12, 20, 21]);
  expect([...drawnPart(column, { supportRowCount: 3 }, [0, 2, 5, 9])]).toEqual([10, 12, 20, 21]);
});
