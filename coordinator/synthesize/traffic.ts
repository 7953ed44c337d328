/**
 * Traffic time: the position in [0, 1] by which a share of the log's traffic has passed. Arrivals
 * are even in traffic time; the clock's seconds follow from it through the hours of the day.
 */

import { at, float64At } from '../../shared/base/arrays.js';
import { DAY_COUNT, HOURLY_TRAFFIC, HOURS_PER_DAY } from './world-parameters.js';

const HOUR_COUNT = DAY_COUNT * HOURS_PER_DAY;
const SECONDS_PER_HOUR = 3600;

/** Traffic time at the start of each hour, and 1 at the end: [HOUR_COUNT + 1]. */
const HOUR_STARTS = hourStarts();

function hourStarts(): Float64Array {
  const cumulative = new Float64Array(HOUR_COUNT + 1);
  for (let hour = 0; hour < HOUR_COUNT; hour += 1)
    cumulative[hour + 1] = float64At(cumulative, hour) + at(HOURLY_TRAFFIC, hour % HOURS_PER_DAY);
  const total = float64At(cumulative, HOUR_COUNT);
  return cumulative.map((sum) => sum / total);
}

export function trafficTimeOfDay(day: number): number {
  const hour = Math.min(HOUR_COUNT, Math.max(0, day * HOURS_PER_DAY));
  const whole = Math.min(HOUR_COUNT - 1, Math.floor(hour));
  const start = float64At(HOUR_STARTS, whole);
  return start + (hour - whole) * (float64At(HOUR_STARTS, whole + 1) - start);
}

/** The hour (from the log's start) that holds a traffic time, sought from `hintHour` on. */
export function hourAt(trafficTime: number, hintHour: number): number {
  let hour = hintHour;
  while (hour > 0 && float64At(HOUR_STARTS, hour) > trafficTime) hour -= 1;
  while (hour < HOUR_COUNT - 1 && float64At(HOUR_STARTS, hour + 1) <= trafficTime) hour += 1;
  return hour;
}

/** Whole seconds since the log's start at a traffic time that lies in `hour`. */
export function secondsAt(trafficTime: number, hour: number): number {
  const start = float64At(HOUR_STARTS, hour);
  const share = (trafficTime - start) / (float64At(HOUR_STARTS, hour + 1) - start);
  const second = Math.floor(share * SECONDS_PER_HOUR);
  return hour * SECONDS_PER_HOUR + Math.min(SECONDS_PER_HOUR - 1, Math.max(0, second));
}

/** Share of the log's 14 days that has passed, in [0, 1): the drift's argument. */
export function logShareAt(secondsFromStart: number): number {
  return secondsFromStart / (HOUR_COUNT * SECONDS_PER_HOUR);
}
