/** The periods that progressive validation replays, and the reasons why they cannot be replayed. */

import { at } from '../../shared/base/arrays.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { tasksInOrder } from '../scoring/held-out-rows.js';

/** The rows from `fromTime` to before `beforeTime`, in the unit of `data.time`. */
export interface Period {
  readonly name: string;
  readonly fromTime: number;
  readonly beforeTime: number;
}

type ProgressiveConfig = NonNullable<EvaluationConfig['progressive']>;

/**
 * The periods in which a test adgroup has rows, in order of time; none without `progressive`. This is
 * checked before anything is computed, because not all logs can be replayed.
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
  const numbers = new Set<number>();
  for await (const task of tasksInOrder(store, testTasks))
    for (const [row, time] of task.times.entries())
      if (at(task.impressions, row) > 0) numbers.add(periodNumber(time, periodSeconds));
  if (numbers.size > periodsMax) throw tooManyPeriods(numbers.size, progressive);
  return [...numbers]
    .sort((a, b) => a - b)
    .map((number) => {
      const { fromTime, beforeTime } = boundsOf(number, periodSeconds);
      return { name: nameOfTime(fromTime, periodSeconds), fromTime, beforeTime };
    });
}

/**
 * The end of a period and the start of the next are one product, so that no row falls between them.
 */
function boundsOf(number: number, periodSeconds: number): Omit<Period, 'name'> {
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
