/** The synthetic world as a market: its truth, its bids and budgets, and the log before it. */

import { open } from 'node:fs/promises';
import { float64At, uint32At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { randomStream } from '../../../shared/base/random.js';
import {
  affinityLogit,
  hourSlotLogit,
  solveIntercept,
  buildWorld,
  type SyntheticWorld,
  hourAt,
  HOURS_PER_DAY,
  secondsAt,
  trafficTimeOfDay,
} from '../../../coordinator/synthesize/synthetic-world.js';
import { CSV_COLUMNS, rowsOfHour } from '../../../coordinator/synthesize/synthesize.js';
import type { MarketSettings } from './market-settings.js';

export interface MarketWorld {
  readonly seed: number;
  readonly world: SyntheticWorld;
  readonly intercept: number;
  readonly adgroupCount: number;
  readonly advertiserCount: number;
  /** `[adgroupCount]` each. */
  readonly advertiserOf: Uint32Array;
  readonly bids: Float64Array;
  /** Share of the traffic that an adgroup matches, relative; its share of the budgets too. */
  readonly weights: Float64Array;
  /** Traffic time at which it can be shown first. */
  readonly starts: Float64Array;
  /** Traffic times between which the market takes place. */
  readonly from: number;
  readonly until: number;
}

export function marketWorldOf(settings: MarketSettings, seed: number): MarketWorld {
  const options = { ...settings.world, seed };
  const world = buildWorld(options);
  const { count, advertisers, sizes, starts } = world.adgroups;
  const stream = randomStream(seed, 'market', 'bids');
  const { firstDay, days, bidDeviation, budgets } = settings;
  return {
    ...{ seed, world, starts },
    intercept: solveIntercept(world, options.clickRate),
    adgroupCount: count,
    advertiserCount: 1 + advertisers.reduce((largest, each) => Math.max(largest, each), 0),
    advertiserOf: advertisers,
    bids: Float64Array.from({ length: count }, () => Math.exp(bidDeviation * stream.normal())),
    weights: Float64Array.from(sizes, (size) => size ** budgets.sizeExponent),
    from: trafficTimeOfDay(firstDay),
    until: trafficTimeOfDay(firstDay + days),
  };
}

/** The adgroups that arrive during the market. */
export function newAdgroupsOf({ starts, from, until, adgroupCount }: MarketWorld): number[] {
  return Array.from({ length: adgroupCount }, (_, adgroup) => adgroup).filter((adgroup) => {
    const start = float64At(starts, adgroup);
    return start >= from && start < until;
  });
}

/** When an adgroup can be shown first, in seconds since the start of the log. */
export function arrivalSecondsOf({ starts }: Pick<MarketWorld, 'starts'>, adgroup: number): number {
  const start = float64At(starts, adgroup);
  return secondsAt(start, hourAt(start, 0));
}

/** The true probability of a click. Hours count since the start of the log. */
export function trueProbability(
  { world, intercept }: Pick<MarketWorld, 'world' | 'intercept'>,
  { adgroup, user, hour, slot }: Readonly<Record<'adgroup' | 'user' | 'hour' | 'slot', number>>,
): number {
  return sigmoid(
    intercept + affinityLogit(world, adgroup, user) + hourSlotLogit(world, hour, slot),
  );
}

/**
 * Budgets of a day, `[advertiserCount]`: in proportion to the weights of an advertiser's adgroups, so that no
 * size of advertiser has more money for the traffic that it matches than another.
 */
export function budgetsOf(
  { advertiserOf, advertiserCount, weights }: MarketWorld,
  sumOfBudgets: number,
): Float64Array {
  const budgets = new Float64Array(advertiserCount);
  let sum = 0;
  for (let adgroup = 0; adgroup < weights.length; adgroup += 1) {
    const advertiser = uint32At(advertiserOf, adgroup);
    const weight = float64At(weights, adgroup);
    budgets[advertiser] = float64At(budgets, advertiser) + weight;
    sum += weight;
  }
  return budgets.map((weight) => (sumOfBudgets * weight) / sum);
}

/** Writes the rows before the market, in order of time, to a CSV file. */
export async function writeLogBefore(
  { world, intercept }: Pick<MarketWorld, 'world' | 'intercept'>,
  { path, days }: { readonly path: string; readonly days: number },
): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.write(`${CSV_COLUMNS.join(',')}\n`);
    for (let hour = 0; hour < days * HOURS_PER_DAY; hour += 1)
      await file.appendFile(rowsOfHour(world, intercept, hour).text);
  } finally {
    await file.close();
  }
}
