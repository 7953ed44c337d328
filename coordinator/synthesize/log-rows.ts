/** The rows of the log as CSV, one hour at a time, in order of time. */

import { at, float64At, int32At, numberAt, uint32At } from '../../shared/base/arrays.js';
import {
  affinityLogit,
  drawnSlot,
  drawnUser,
  DRAWS,
  hourSlotLogit,
  impressionBits,
  impressionDraw,
  UINT32_RANGE,
} from './click-model.js';
import type { SyntheticWorld } from './synthetic-world.js';
import {
  HOUR_COUNT,
  HOUR_STARTS,
  HOURS_PER_DAY,
  LOG_START_SECONDS,
  PROFILE_CODE_COUNT,
  PROFILE_FIELDS,
  secondsAt,
} from './world-parameters.js';

export const CSV_COLUMNS = [
  ...['time', 'user', ...PROFILE_FIELDS.map((field) => field.name), 'adgroup', 'advertiser'],
  ...['campaign', 'category', 'brand', 'price', 'slot', 'hour', 'click', 'p_true'],
];

/** p_true is written with 8 decimals and clicks are drawn from what is written, so it is exact. */
const PROBABILITY_DECIMALS = 8;
const PROBABILITY_UNITS = 10 ** PROBABILITY_DECIMALS;
/** Keeps p away from 0 and 1: it is within [2.3e-6, 1 - 2.3e-6]. */
const LOGIT_MAX = 13;

/** `age,gender,city,shopping,occupation` of each profile, by its code. */
const PROFILES = Array.from({ length: PROFILE_CODE_COUNT }, (_, code) => {
  let rest = code;
  const levels = PROFILE_FIELDS.map(({ weights }) => {
    const level = rest % weights.length;
    rest = Math.floor(rest / weights.length);
    return level;
  });
  return levels.join(',');
});

interface Arrival {
  readonly trafficTime: number;
  readonly adgroup: number;
  /** The bits that name the impression. */
  readonly impression: number;
}

export interface HourRows {
  readonly text: string;
  readonly rowCount: number;
  readonly clickCount: number;
  readonly trueClickRateSum: number;
  readonly oracleLoglossSum: number;
  readonly oracleEntropySum: number;
}

/** @param hour since the start of the log */
export function rowsOfHour(world: SyntheticWorld, intercept: number, hour: number): HourRows {
  const { adgroups, users } = world;
  const lines: string[] = [];
  const sums = { clickCount: 0, trueClickRateSum: 0, oracleLoglossSum: 0, oracleEntropySum: 0 };
  for (const { trafficTime, adgroup, impression } of arrivalsOfHour(world, hour)) {
    const key = int32At(adgroups.keys, 2 * adgroup + 1);
    const user = drawnUser(impression, key, users.count);
    const slot = drawnSlot(impression, key);
    const unbounded =
      affinityLogit(world, adgroup, user) + (intercept + hourSlotLogit(world, hour, slot));
    const logit = Math.max(-LOGIT_MAX, Math.min(LOGIT_MAX, unbounded));
    const inverse = 1 + Math.exp(-logit);
    const units = Math.round(PROBABILITY_UNITS / inverse);
    const probability = units / PROBABILITY_UNITS;
    const drawn = impressionDraw(impression, key, DRAWS.click);
    const click = drawn < probability * UINT32_RANGE ? 1 : 0;
    // -ln p and -ln(1 - p) with one logarithm.
    const lossOfClick = Math.log(inverse);
    const lossOfNone = lossOfClick + logit;
    sums.clickCount += click;
    sums.trueClickRateSum += probability;
    sums.oracleLoglossSum += click === 1 ? lossOfClick : lossOfNone;
    sums.oracleEntropySum += probability * lossOfClick + (1 - probability) * lossOfNone;
    const values: (number | string)[] = [
      LOG_START_SECONDS + secondsAt(trafficTime, hour),
      user,
      at(PROFILES, numberAt(users.profileCodes, user)),
      adgroup,
      uint32At(adgroups.advertisers, adgroup),
      uint32At(adgroups.campaigns, adgroup),
      uint32At(adgroups.categories, adgroup),
      uint32At(adgroups.brands, adgroup),
      (uint32At(adgroups.priceCents, adgroup) / 100).toFixed(2),
      slot,
      hour % HOURS_PER_DAY,
      click,
      `0.${String(units).padStart(PROBABILITY_DECIMALS, '0')}`,
    ];
    lines.push(`${values.join(',')}\n`);
  }
  return { text: lines.join(''), rowCount: lines.length, ...sums };
}

/**
 * Impression k of an adgroup with n lies at a random place in the k-th of n equal parts of the adgroup's life, the
 * first at its very start.
 */
function arrivalsOfHour({ adgroups }: SyntheticWorld, hour: number): Arrival[] {
  const from = float64At(HOUR_STARTS, hour);
  const until = hour === HOUR_COUNT - 1 ? Infinity : float64At(HOUR_STARTS, hour + 1);
  const arrivals: Arrival[] = [];
  for (let adgroup = 0; adgroup < adgroups.count; adgroup += 1) {
    const start = float64At(adgroups.starts, adgroup);
    if (start >= until) continue;
    const size = uint32At(adgroups.sizes, adgroup);
    const partsPerUnit = size / (1 - start);
    // A margin of one part in a billion against rounding; the comparison below decides.
    const first = Math.max(0, Math.floor((from - start) * partsPerUnit - 1e-9));
    const last = Math.min(size - 1, Math.floor((until - start) * partsPerUnit + 1e-9));
    for (let index = first; index <= last; index += 1) {
      const impression = impressionBits(int32At(adgroups.keys, 2 * adgroup), index);
      const draw = impressionDraw(
        impression,
        int32At(adgroups.keys, 2 * adgroup + 1),
        DRAWS.arrival,
      );
      const trafficTime = start + (index + (index === 0 ? 0 : draw / UINT32_RANGE)) / partsPerUnit;
      if (trafficTime >= from && trafficTime < until)
        arrivals.push({ trafficTime, adgroup, impression });
    }
  }
  // Equal times keep the order of the adgroups.
  return arrivals.sort((a, b) => a.trafficTime - b.trafficTime);
}
