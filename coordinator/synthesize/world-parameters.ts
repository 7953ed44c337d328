/**
 * The constants and the traffic of the synthetic world: how many levels, how strong each effect. They are recorded
 * beside every log; to change one is to make another world.
 */

import { at, float64At } from '../../shared/base/arrays.js';
import type { WorldSetting } from './synthesis-options.js';

/** Raised whenever the same options would give other bytes. */
export const WORLD_VERSION = 1;

export const LATENT_WIDTH = 8;
export const RESPONSE_RANK = 3;
export const HOURS_PER_DAY = 24;
export const DAY_COUNT = 14;
/** The log starts at 2024-01-01T00:00:00Z, in seconds since the Unix epoch. */
export const LOG_START_SECONDS = 1_704_067_200;

/** Level weights of the user's profile fields, in the order of the log's columns. */
export const PROFILE_FIELDS = [
  { name: 'age', weights: [0.08, 0.19, 0.24, 0.2, 0.15, 0.09, 0.05] },
  { name: 'gender', weights: [0.48, 0.52] },
  { name: 'city', weights: [0.15, 0.25, 0.35, 0.25] },
  { name: 'shopping', weights: [0.3, 0.45, 0.25] },
  { name: 'occupation', weights: [0.9, 0.1] },
] as const;

export const PROFILE_LEVEL_COUNT = PROFILE_FIELDS.reduce((sum, f) => sum + f.weights.length, 0);
export const PROFILE_CODE_COUNT = PROFILE_FIELDS.reduce(
  (product, f) => product * f.weights.length,
  1,
);

export const WORLD_PARAMETERS = {
  categoryCount: 100,
  brandsPerCategory: 50,
  adgroupsPerCampaign: 4,
  campaignsPerAdvertiser: 3,
  /** Share of an advertiser's adgroups that lie in the advertiser's own category. */
  ownCategoryShare: 0.8,

  sizeExponent: 1.1,
  impressionsPerAdgroupMin: 5,
  /** No adgroup has more than this share of all rows. */
  impressionShareMax: 0.02,

  lateAdgroupShare: 0.2,
  lateDayCount: 3,
  /** Late adgroups still have at least this long to run. */
  lateRunDayMin: 0.5,

  /** Share of a user's latent variance that the profile explains. */
  profileLatentShare: 0.5,

  /** Standard deviations, in logits or of a latent's components. `own` ones are times s. */
  deviations: {
    categoryBase: 0.45,
    advertiserBase: 0.25,
    brandBase: 0.25,
    ownBase: 0.7,
    categoryLatent: 0.5,
    brandLatent: 0.3,
    ownLatent: 0.6,
    categoryResponse: 0.35,
    ownResponse: 0.4,
    hour: 0.15,
    slot: 0.25,
  },
  /** Logits per standard deviation of log price. */
  priceSlope: -0.15,
  logPriceMean: 3.5,
  logPriceDeviation: 1,

  slotWeights: [0.4, 0.3, 0.2, 0.1],
  /** The click rate's slow drift over the log: linear rise, and a weekly wave, in logits. */
  driftRise: 0.2,
  driftWave: 0.1,
} as const;

export const SETTING_SCALES: Readonly<Record<WorldSetting, number>> = {
  homogeneous: 0,
  moderate: 0.5,
  strong: 1,
};

/** Traffic by hour of day, relative. */
export const HOURLY_TRAFFIC = [
  0.45, 0.3, 0.2, 0.16, 0.16, 0.22, 0.4, 0.65, 0.85, 1, 1.1, 1.15, 1.25, 1.2, 1.1, 1.05, 1.05, 1.1,
  1.2, 1.4, 1.6, 1.6, 1.3, 0.8,
] as const;

/**
 * Traffic time is the position in [0, 1] by which a share of the log's traffic has passed. Arrivals
 * are even in traffic time; the clock's seconds follow from it through the hours of the day.
 */
export const HOUR_COUNT = DAY_COUNT * HOURS_PER_DAY;
const SECONDS_PER_HOUR = 3600;

/** Traffic time at the start of each hour, and 1 at the end: [HOUR_COUNT + 1]. */
export const HOUR_STARTS: Float64Array = hourStarts();

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
