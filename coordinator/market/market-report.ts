/** The report of a market as data: what the arms did over all seeds, and whether the bar is reached. */

import { z } from 'zod';
import { at } from '../../shared/base/arrays.js';
import type { MarketConfig } from '../../shared/config/market-config.js';
import { IntervalSchema, type Interval } from '../scoring/evaluation-report.js';
import { MARKET_ARMS, type MarketArm } from './arm-outcome.js';
import { classReportOf, ClassReportSchema } from './class-report.js';
import { barOf } from './market-bar.js';
import { intervalOver } from './seed-intervals.js';
import {
  goodAdgroupsOf,
  MEASURES,
  outcomeOf,
  type MeasuredArm,
  type SeedOutcome,
} from './seed-measures.js';

const REPORT_FORMAT_VERSION = 2;
const SECONDS_PER_DAY = 86_400;
const CURVE_STEP_HOURS = 12;

const ArmSchema = z.enum(MARKET_ARMS);
const interval = IntervalSchema.nullable();

const MeasuredSchema = z.strictObject({
  arm: ArmSchema,
  /** By seed; null where the measure is not defined. */
  values: z.array(z.number().nullable()),
  mean: interval,
  /** The arm minus `global`, paired by seed; also as a part of `global`. Null for `global` itself. */
  difference: interval,
  relative: interval,
});
type Measured = z.infer<typeof MeasuredSchema>;

export const MarketReportSchema = z.strictObject({
  formatVersion: z.literal(REPORT_FORMAT_VERSION),
  market: z.string(),
  /** Names the config: seeds of another config are not mixed in. */
  configDigest: z.string(),
  scorer: z.string(),
  seeds: z.array(z.int()),
  setting: z.string(),
  days: z.int(),
  auctionsPerDay: z.int(),
  advertisers: interval,
  newAdgroups: interval,
  goodAdgroups: interval,
  measures: z.array(
    z.strictObject({ id: z.string(), title: z.string(), arms: z.array(MeasuredSchema) }),
  ),
  /** Clicks of each day, minus those of `global`, as a part of them. */
  dailyClicks: z.array(z.strictObject({ arm: ArmSchema, byDay: z.array(interval) })),
  /** The share of good new adgroups that are found within so many hours, of those that had so long. */
  foundWithin: z.strictObject({
    hours: z.array(z.number()),
    arms: z.array(z.strictObject({ arm: ArmSchema, shares: z.array(interval) })),
  }),
  /** The facts that advertisers of each size meet under each arm. */
  classes: ClassReportSchema,
  bar: z.array(
    z.strictObject({
      claim: z.string(),
      measure: z.string(),
      holds: z.boolean(),
      difference: interval,
      relative: interval,
      /** Why it does not hold; null if it does. */
      why: z.string().nullable(),
    }),
  ),
});
export type MarketReport = z.infer<typeof MarketReportSchema>;

interface MarketFacts {
  readonly config: MarketConfig;
  readonly configDigest: string;
  readonly scorer: string;
}

export function marketReportOf(
  { config, configDigest, scorer }: MarketFacts,
  seeds: readonly SeedOutcome[],
): MarketReport {
  const endSeconds = (config.firstDay + config.days) * SECONDS_PER_DAY;
  const good = seeds.map((seed) => goodAdgroupsOf(seed, config.goodAdgroups));
  const measuredArms = (arm: MarketArm): MeasuredArm[] =>
    seeds.map((seed, place) => ({
      ...{ outcome: outcomeOf(seed, arm), good: at(good, place), endSeconds },
    }));
  const measures = MEASURES.map(({ id, title, of }) => {
    const valuesOf = (arm: MarketArm): (number | null)[] => measuredArms(arm).map(of);
    const reference = valuesOf('global');
    const arms = MARKET_ARMS.map((arm) => measuredOf(arm, valuesOf(arm), reference));
    return { id, title, arms };
  });
  const classes = classReportOf(seeds);
  const countOver = (countOf: (seed: SeedOutcome, place: number) => number): Interval | null =>
    intervalOver(seeds.map(countOf));
  return {
    formatVersion: REPORT_FORMAT_VERSION,
    ...{ market: config.market, configDigest, scorer, measures },
    seeds: seeds.map(({ seed }) => seed),
    setting: config.world.setting,
    days: config.days,
    auctionsPerDay: config.traffic.auctionsPerDay,
    advertisers: countOver((seed) =>
      outcomeOf(seed, 'global').classes.reduce((sum, each) => sum + each.advertiserCount, 0),
    ),
    newAdgroups: countOver((seed) => outcomeOf(seed, 'global').newAdgroups.length),
    goodAdgroups: countOver((_, place) => at(good, place).size),
    dailyClicks: dailyClicksOf(seeds, config.days),
    foundWithin: foundWithinOf(measuredArms, config.days),
    classes,
    bar: barOf(measures, classes),
  };
}

function measuredOf(
  arm: MarketArm,
  values: readonly (number | null)[],
  reference: readonly (number | null)[],
): Measured {
  const pairs = values.flatMap((value, place) => {
    const other = reference[place] ?? null;
    return value === null || other === null ? [] : [[value, other] as const];
  });
  const isReference = arm === 'global';
  const comparable = pairs.filter(([, other]) => other !== 0);
  return {
    ...{ arm, values: [...values] },
    mean: intervalOver(values.flatMap((value) => (value === null ? [] : [value]))),
    difference: isReference ? null : intervalOver(pairs.map(([value, other]) => value - other)),
    relative: isReference
      ? null
      : intervalOver(comparable.map(([value, other]) => (value - other) / Math.abs(other))),
  };
}

function dailyClicksOf(
  seeds: readonly SeedOutcome[],
  dayCount: number,
): MarketReport['dailyClicks'] {
  const days = Array.from({ length: dayCount }, (_, day) => day);
  return MARKET_ARMS.filter((arm) => arm !== 'global').map((arm) => ({
    arm,
    byDay: days.map((day) => {
      const clicksOf = (seed: SeedOutcome, of: MarketArm): number =>
        at(outcomeOf(seed, of).days, day).clicks;
      const comparable = seeds.filter((seed) => clicksOf(seed, 'global') > 0);
      return intervalOver(
        comparable.map((seed) => clicksOf(seed, arm) / clicksOf(seed, 'global') - 1),
      );
    }),
  }));
}

function foundWithinOf(
  measuredArms: (arm: MarketArm) => readonly MeasuredArm[],
  dayCount: number,
): MarketReport['foundWithin'] {
  const steps = Math.max(1, Math.floor((dayCount * 24) / CURVE_STEP_HOURS));
  const hours = Array.from({ length: steps }, (_, step) => (step + 1) * CURVE_STEP_HOURS);
  const shareWithin = (
    { outcome, good, endSeconds }: MeasuredArm,
    limit: number,
  ): number | null => {
    const watched = outcome.newAdgroups.filter(
      ({ adgroup, arrivedSeconds }) =>
        good.has(adgroup) && arrivedSeconds + limit * 3600 <= endSeconds,
    );
    const found = watched.filter(
      (each) => each.found !== null && each.found.seconds - each.arrivedSeconds <= limit * 3600,
    );
    return watched.length === 0 ? null : found.length / watched.length;
  };
  return {
    hours,
    arms: MARKET_ARMS.map((arm) => ({
      arm,
      shares: hours.map((limit) =>
        intervalOver(measuredArms(arm).flatMap((measured) => shareWithin(measured, limit) ?? [])),
      ),
    })),
  };
}
