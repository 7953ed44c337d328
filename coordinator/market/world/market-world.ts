/** The synthetic world as a market: its truth, and what each adgroup bids. */

import { float64At, uint32At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { randomStream } from '../../../shared/base/random.js';
import type { MarketConfig } from '../../../shared/config/market-config.js';
import { affinityLogit, hourSlotLogit, solveIntercept } from '../../synthesize/click-model.js';
import type { WorldOptions } from '../../synthesize/synthesis.js';
import { buildWorld, type SyntheticWorld } from '../../synthesize/synthetic-world.js';
import { hourAt, secondsAt, trafficTimeOfDay } from '../../synthesize/traffic.js';
import { DAY_COUNT } from '../../synthesize/world-parameters.js';
import { checkWorldOptions } from '../../synthesize/world-limits.js';

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

function worldOptionsOf({ world }: MarketConfig, seed: number): WorldOptions {
  return {
    ...{ rows: world.rows, setting: world.setting, meanClickRate: world.clickRate, seed },
    ...{ adgroupCount: world.adgroups, userCount: world.users },
  };
}

/** @throws QianmoError of kind `usage` if the world's options are out of bounds */
export function marketWorldOf(config: MarketConfig, seed: number): MarketWorld {
  const options = worldOptionsOf(config, seed);
  checkWorldOptions(options);
  const world = buildWorld(options);
  const { count, advertisers, sizes, starts } = world.adgroups;
  const stream = randomStream(seed, 'market', 'bids');
  const { sizeExponent } = config.budgets;
  return {
    ...{ seed, world, starts },
    intercept: solveIntercept(world, options.meanClickRate),
    adgroupCount: count,
    advertiserCount: 1 + advertisers.reduce((largest, each) => Math.max(largest, each), 0),
    advertiserOf: advertisers,
    bids: Float64Array.from({ length: count }, () =>
      Math.exp(config.bids.deviation * stream.normal()),
    ),
    weights: Float64Array.from(sizes, (size) => size ** sizeExponent),
    from: trafficTimeOfDay(config.firstDay),
    until: trafficTimeOfDay(config.firstDay + config.days),
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

/** The rows that the log before the market is expected to have of an adgroup: its rows lie evenly over its life. */
export function loggedRowsOf(
  { world, starts, from }: Pick<MarketWorld, 'world' | 'starts' | 'from'>,
  adgroup: number,
): number {
  const start = float64At(starts, adgroup);
  const share = (from - start) / (trafficTimeOfDay(DAY_COUNT) - start);
  return uint32At(world.adgroups.sizes, adgroup) * Math.max(0, share);
}

interface Impression {
  readonly adgroup: number;
  readonly user: number;
  /** Since the start of the log. */
  readonly hour: number;
  readonly slot: number;
}

/** The true probability of a click. */
export function trueProbability(
  { world, intercept }: Pick<MarketWorld, 'world' | 'intercept'>,
  { adgroup, user, hour, slot }: Impression,
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
