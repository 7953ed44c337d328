/**
 * The rows of one role of a job's tasks, as the typed arrays a forward pass reads. No tensors here.
 *
 * Rows lie one after the other, `[rowCount]`, as long as only shared parameters touch them; from
 * the first personal block on they lie by task, `[taskCount, taskRowCountMax]`, short tasks padded.
 * Padding has neither impressions nor clicks, hence no loss and no gradient.
 */

import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { localIdsOf, type LocalIds } from './local-ids.js';

export type RowRole = 'support' | 'query' | 'all';

export interface RowBatch {
  readonly taskCount: number;
  readonly rowCount: number;
  /** At least 1. */
  readonly taskRowCountMax: number;
  /** Row of the pack for each category feature: `[rowCount, categoryCount]`. */
  readonly categoryPlaces: Int32Array;
  /** Members of all bags, one after the other; a member weighs 1 / the size of its bag. */
  readonly members: {
    readonly places: Int32Array;
    /** `row * bagCount + bag` of each member. */
    readonly bags: Int32Array;
    readonly weights: Float32Array;
  };
  /** `[rowCount, numberCount]`. */
  readonly numbers: Float32Array;
  /** By task, over the task's sum of impressions (0 where that is 0). */
  readonly impressionShares: Float32Array;
  readonly clickShares: Float32Array;
  /** For each padded place `[taskCount, taskRowCountMax]` its row; padding repeats row 0. */
  readonly rowOfPlace: Int32Array;
  /** For each row its padded place: `[rowCount]`. */
  readonly placeOfRow: Int32Array;
}

/** The ids of a job by table, in the order of `RowPackLayout.idsByTable`. */
export function localIdsByTable(layout: RowPackLayout): LocalIds[] {
  return layout.idsByTable.map((ids, table) => localIdsOf(ids, layout.startByTable[table] ?? 0));
}

export function rowBatchOf(
  tasks: readonly TaskRows[],
  role: RowRole,
  localIds: readonly LocalIds[],
): RowBatch {
  const spans = tasks.map(({ rowCount, supportRowCount }) => ({
    start: role === 'query' ? supportRowCount : 0,
    end: role === 'support' ? supportRowCount : rowCount,
  }));
  const counts = spans.map(({ start, end }) => end - start);
  const rowCount = counts.reduce((sum, count) => sum + count, 0);
  const taskRowCountMax = Math.max(1, ...counts);
  const first = tasks[0];
  const categoryCount = first?.categoryIds.length ?? 0;
  const numberCount = first?.numbers.length ?? 0;

  const categoryPlaces = new Int32Array(rowCount * categoryCount);
  const numbers = new Float32Array(rowCount * numberCount);
  const placeCount = tasks.length * taskRowCountMax;
  const impressionShares = new Float32Array(placeCount);
  const clickShares = new Float32Array(placeCount);
  const rowOfPlace = new Int32Array(placeCount);
  const placeOfRow = new Int32Array(rowCount);
  const members: MemberLists = { places: [], bags: [], weights: [] };

  let batchRow = 0;
  for (const [taskPlace, task] of tasks.entries()) {
    const { start = 0, end = 0 } = spans[taskPlace] ?? {};
    const count = end - start;
    const span = { task, start, end, firstRow: batchRow };
    placeCategories(span, localIds, categoryPlaces);
    for (const [column, values] of task.numbers.entries())
      for (let row = 0; row < count; row += 1)
        numbers[(batchRow + row) * numberCount + column] = values[start + row] ?? 0;
    collectMembers(span, localIds.slice(categoryCount), members);
    const firstPlace = taskPlace * taskRowCountMax;
    shareOut(span, firstPlace, impressionShares, clickShares);
    for (let row = 0; row < count; row += 1) {
      rowOfPlace[firstPlace + row] = batchRow + row;
      placeOfRow[batchRow + row] = firstPlace + row;
    }
    batchRow += count;
  }
  return {
    taskCount: tasks.length,
    rowCount,
    taskRowCountMax,
    categoryPlaces,
    members: {
      places: Int32Array.from(members.places),
      bags: Int32Array.from(members.bags),
      weights: Float32Array.from(members.weights),
    },
    numbers,
    impressionShares,
    clickShares,
    rowOfPlace,
    placeOfRow,
  };
}

/** The rows `start` to `end` of a task; they are rows `firstRow` and on of the batch. */
interface TaskSpan {
  readonly task: TaskRows;
  readonly start: number;
  readonly end: number;
  readonly firstRow: number;
}

interface MemberLists {
  readonly places: number[];
  readonly bags: number[];
  readonly weights: number[];
}

function placeCategories(
  { task, start, end, firstRow }: TaskSpan,
  localIds: readonly LocalIds[],
  target: Int32Array,
): void {
  const columnCount = task.categoryIds.length;
  for (const [column, ids] of task.categoryIds.entries()) {
    const local = localIds[column];
    if (local === undefined) throw new Error(`no table for category feature ${column}`);
    let place = firstRow * columnCount + column;
    for (let row = start; row < end; row += 1) {
      target[place] = local.placeOf(ids[row] ?? 0);
      place += columnCount;
    }
  }
}

function collectMembers(
  { task, start, end, firstRow }: TaskSpan,
  localIds: readonly LocalIds[],
  members: MemberLists,
): void {
  const bagCount = task.bagIds.length;
  for (const [bag, ids] of task.bagIds.entries()) {
    const local = localIds[bag];
    if (local === undefined) throw new Error(`no table for bag feature ${bag}`);
    const lengthMax = ids.length / task.rowCount;
    for (let row = start; row < end; row += 1) {
      const known = ids.subarray(row * lengthMax, (row + 1) * lengthMax).filter((id) => id >= 0);
      for (const id of known) {
        members.places.push(local.placeOf(id));
        members.bags.push((firstRow + row - start) * bagCount + bag);
        members.weights.push(1 / known.length);
      }
    }
  }
}

/** Divides the counts of one task by its sum of impressions. */
function shareOut(
  { task: { impressions, clicks }, start, end }: TaskSpan,
  firstPlace: number,
  impressionShares: Float32Array,
  clickShares: Float32Array,
): void {
  let total = 0;
  for (let row = start; row < end; row += 1) total += impressions[row] ?? 0;
  if (total === 0) return;
  for (let row = start; row < end; row += 1) {
    impressionShares[firstPlace + row - start] = (impressions[row] ?? 0) / total;
    clickShares[firstPlace + row - start] = (clicks[row] ?? 0) / total;
  }
}
