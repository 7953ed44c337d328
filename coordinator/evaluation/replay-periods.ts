/** The periods that progressive validation replays, and what stands against replaying them. */

import { at } from '../../shared/base/arrays.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { tasksInOrder } from '../scoring/held-out-rows.js';

/** Rows of `fromTime` to `beforeTime` (exclusive), in the unit of `data.time`. */
export interface Period {
  readonly name: string;
  readonly fromTime: number;
  readonly beforeTime: number;
}

type ProgressiveConfig = NonNullable<EvaluationConfig['progressive']>;

/**
 * The periods in which a test adgroup has rows, in order of time; none without `progressive`. Asked
 * before anything is computed, so that nothing is computed for logs that cannot be replayed.
 *
 * @throws QianmoError of kind `data` when there are too many, or times are too coarse for them.
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

/** One product for the end of a period and the beginning of the next: no row falls between them. */
function boundsOf(number: number, periodSeconds: number): Omit<Period, 'name'> {
  return { fromTime: number * periodSeconds, beforeTime: (number + 1) * periodSeconds };
}

/** @throws QianmoError of kind `data` when times of this size do not tell such periods apart. */
function periodNumber(time: number, periodSeconds: number): number {
  // Rounded, so that the period may be a neighbour of the right one.
  const near = Math.floor(time / periodSeconds);
  for (const number of [near, near - 1, near + 1]) {
    const { fromTime, beforeTime } = boundsOf(number, periodSeconds);
    if (fromTime <= time && time < beforeTime) return number;
  }
  throw new QianmoError({
    kind: 'data',
    what: 'the periods to replay are shorter than the precision of the times',
    where: 'evaluation.progressive.periodSeconds',
    expected: 'periods in the unit of data.time that its numbers tell apart',
    found: `periods of ${periodSeconds}, and a time of ${time}`,
    cure: 'raise evaluation.progressive.periodSeconds',
  });
}

/**
 * 1973 to 2199 as seconds since the epoch. Earlier numbers are days or rounds of whoever wrote the logs,
 * later ones milliseconds or finer.
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
    what: 'the rows of the test adgroups lie in too many periods to replay',
    where: 'evaluation.progressive',
    expected: `at most ${periodsMax}, each of which is a pass over its adgroups`,
    found: `${found} periods of ${periodSeconds}`,
    cure: 'raise periodSeconds, which is in the unit of data.time (milliseconds where that has them), or periodsMax',
  });
}
