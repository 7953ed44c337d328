/** The periods that progressive validation replays, and the reasons why they cannot be replayed. */

import { at } from '../../shared/base/arrays.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { TimeDivision } from '../../shared/tasks/rows/row-division.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { tasksInOrder } from '../scoring/held-out-rows.js';

/** The rows from `fromTime` to before `beforeTime`, in the unit of `data.time`. */
export interface Period {
  readonly name: string;
  readonly fromTime: number;
  readonly beforeTime: number;
  /** The test tasks with rows in the period, in the order of the split. */
  readonly taskIndices: readonly number[];
  /** By task: the rows before the period. `[taskCount]` */
  readonly supportRowCounts: readonly number[];
  /** By task: the rows in the period. `[taskCount]` */
  readonly queryRowCounts: readonly number[];
}

/** Support rows are those before the period, and query rows those in it. */
export function timeDivisionOf({ fromTime, beforeTime }: Period): TimeDivision {
  return { by: 'time', fromTime, beforeTime };
}

type ProgressiveConfig = NonNullable<EvaluationConfig['progressive']>;

/** The tasks of a period while the times of the tasks are read, one after the other. */
interface CountedTasks {
  readonly taskIndices: number[];
  readonly supportRowCounts: number[];
  readonly queryRowCounts: number[];
}

/**
 * The periods in which a test adgroup has rows, in order of time; none without `progressive`. This is
 * checked before anything is computed, because not all logs can be replayed. It reads the times of the
 * tasks once, for all periods.
 *
 * @throws QianmoError of kind `data` if there are too many periods, or if times are too coarse for them.
 */
export async function periodsToReplay(
  { progressive }: EvaluationConfig,
  store: TaskStore,
  testTasks: readonly number[],
): Promise<Period[]> {
  if (progressive === undefined) return [];
  const { periodSeconds, periodsMax } = progressive;
  const counted = new Map<number, CountedTasks>();
  const withImpressions = new Set<number>();
  for await (const task of tasksInOrder(store, testTasks)) {
    const rowCounts = new Map<number, number>();
    for (const [row, time] of task.times.entries()) {
      const number = periodNumber(time, periodSeconds);
      rowCounts.set(number, (rowCounts.get(number) ?? 0) + 1);
      if (at(task.impressions, row) > 0) withImpressions.add(number);
    }
    countTask(counted, task.taskIndex, rowCounts);
  }
  if (withImpressions.size > periodsMax) throw tooManyPeriods(withImpressions.size, progressive);
  return inOrder(withImpressions).map((number) => {
    const { fromTime, beforeTime } = boundsOf(number, periodSeconds);
    const name = nameOfTime(fromTime, periodSeconds);
    return { name, fromTime, beforeTime, ...tasksOf(counted, number) };
  });
}

/** @param rowCounts the number of rows by the number of the period */
function countTask(
  counted: Map<number, CountedTasks>,
  taskIndex: number,
  rowCounts: ReadonlyMap<number, number>,
): void {
  let supportRowCount = 0;
  for (const number of inOrder(rowCounts.keys())) {
    const queryRowCount = rowCounts.get(number) ?? 0;
    const tasks = tasksOf(counted, number);
    tasks.taskIndices.push(taskIndex);
    tasks.supportRowCounts.push(supportRowCount);
    tasks.queryRowCounts.push(queryRowCount);
    supportRowCount += queryRowCount;
  }
}

function tasksOf(counted: Map<number, CountedTasks>, number: number): CountedTasks {
  const known = counted.get(number);
  if (known !== undefined) return known;
  const tasks: CountedTasks = { taskIndices: [], supportRowCounts: [], queryRowCounts: [] };
  counted.set(number, tasks);
  return tasks;
}

function inOrder(numbers: Iterable<number>): number[] {
  return [...numbers].sort((a, b) => a - b);
}

/**
 * The end of a period and the start of the next are one product, so that no row falls between them.
 */
function boundsOf(number: number, periodSeconds: number): Pick<Period, 'fromTime' | 'beforeTime'> {
  return { fromTime: number * periodSeconds, beforeTime: (number + 1) * periodSeconds };
}

/** @throws QianmoError of kind `data` if times of this size cannot tell such periods apart. */
function periodNumber(time: number, periodSeconds: number): number {
  // The quotient is rounded, so the right period may be a neighbour of this one.
  const near = Math.floor(time / periodSeconds);
  for (const number of [near, near - 1, near + 1]) {
    const { fromTime, beforeTime } = boundsOf(number, periodSeconds);
    if (fromTime <= time && time < beforeTime) return number;
  }
  throw new QianmoError({
    kind: 'data',
    what: 'the periods to replay are shorter than the precision of the times',
    where: 'evaluation.progressive.periodSeconds',
    expected: 'periods that the numbers of data.time can tell apart',
    found: `periods of ${periodSeconds}, and a time of ${time}`,
    cure: 'raise evaluation.progressive.periodSeconds',
  });
}

/**
 * The years 1973 to 2199 as seconds since the epoch. Smaller numbers are days, or rounds that the logs
 * count; larger ones are milliseconds or finer.
 */
const EPOCH_SECONDS_MIN = 100_000_000;
const EPOCH_SECONDS_END = 7_258_118_400;

function nameOfTime(time: number, periodSeconds: number): string {
  if (time < EPOCH_SECONDS_MIN || time >= EPOCH_SECONDS_END) return String(time);
  const text = new Date(time * 1000).toISOString();
  return periodSeconds % 86_400 === 0 ? text.slice(0, 10) : `${text.slice(0, 16)}Z`;
}

function tooManyPeriods(
  found: number,
  { periodSeconds, periodsMax }: ProgressiveConfig,
): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the rows of the test adgroups fall into too many periods to replay',
    where: 'evaluation.progressive',
    expected: `at most ${periodsMax}, each of which is a pass over its adgroups`,
    found: `${found} periods of ${periodSeconds}`,
    cure: 'raise periodSeconds (it has the unit of data.time, for example milliseconds) or periodsMax',
  });
}
