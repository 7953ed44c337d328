/** Counts what happens in a market, adgroup by adgroup, and sums it up at the end. */

import { at, numberAt, uint32At } from '../../shared/base/arrays.js';
import type { MarketConfig } from '../../shared/config/market-config.js';
import { HOURS_PER_DAY } from '../synthesize/world-parameters.js';
import { giniOf, type ArmOutcome, type MarketArm } from './arm-outcome.js';
import { ClassMeasures, type ClassedMarket } from './class-measures.js';
import { arrivalSecondsOf, newAdgroupsOf } from './world/market-world.js';

/** An impression that was sold. */
interface SoldImpression {
  readonly adgroup: number;
  readonly advertiser: number;
  /** Since the start of the log. */
  readonly seconds: number;
  readonly isClick: boolean;
  /** The price that was charged: 0 without a click. */
  readonly price: number;
  readonly probability: number;
  readonly truth: number;
  readonly isExploration: boolean;
  /** True values of the shown adgroup and of the best candidate that had budget. */
  readonly value: number;
  readonly bestValue: number;
}

interface MeasuredMarket extends ClassedMarket {
  readonly config: Pick<MarketConfig, 'firstDay' | 'days' | 'goodAdgroups'>;
}

type Totals = Omit<
  { -readonly [Key in keyof ArmOutcome]: ArmOutcome[Key] },
  'arm' | 'auctions' | 'exposureGini' | 'classes' | 'days' | 'newAdgroups'
>;

export class MarketMeasures {
  readonly #measured: MeasuredMarket;
  readonly #impressions: Uint32Array;
  readonly #deservedWins: Uint32Array;
  readonly #found = new Map<number, { readonly seconds: number; readonly impressions: number }>();
  readonly classes: ClassMeasures;
  readonly #days: { impressions: number; clicks: number; revenue: number; regret: number }[];
  readonly #totals: Totals = {
    ...{ impressions: 0, clicks: 0, revenue: 0, predictedClicks: 0, expectedClicks: 0 },
    ...{ value: 0, regret: 0, explored: 0, exploredRegret: 0 },
  };

  constructor(measured: MeasuredMarket) {
    const { market, config } = measured;
    this.#measured = measured;
    this.#impressions = new Uint32Array(market.adgroupCount);
    this.#deservedWins = new Uint32Array(market.adgroupCount);
    this.classes = new ClassMeasures(measured);
    this.#days = Array.from({ length: config.days }, () => ({
      ...{ impressions: 0, clicks: 0, revenue: 0, regret: 0 },
    }));
  }

  /** An auction that sold nothing, although a candidate had a value. */
  unsold(seconds: number, bestValue: number): void {
    this.#totals.regret += bestValue;
    this.#dayOf(seconds).regret += bestValue;
  }

  sold(shown: SoldImpression): void {
    const { adgroup, seconds, isClick, price, value, bestValue } = shown;
    const [clicks, regret] = [isClick ? 1 : 0, bestValue - value];
    this.#impressions[adgroup] = uint32At(this.#impressions, adgroup) + 1;
    const totals = this.#totals;
    totals.predictedClicks += shown.probability;
    totals.expectedClicks += shown.truth;
    totals.value += value;
    totals.regret += regret;
    totals.explored += shown.isExploration ? 1 : 0;
    totals.exploredRegret += shown.isExploration ? regret : 0;
    const day = this.#dayOf(seconds);
    day.regret += regret;
    this.classes.sold(shown);
    for (const counted of [totals, day]) {
      counted.impressions += 1;
      counted.clicks += clicks;
      counted.revenue += price;
    }
    if (!shown.isExploration && value === bestValue) this.#deserve(adgroup, seconds);
  }

  #deserve(adgroup: number, seconds: number): void {
    const wins = uint32At(this.#deservedWins, adgroup) + 1;
    this.#deservedWins[adgroup] = wins;
    if (wins !== this.#measured.config.goodAdgroups.wins) return;
    this.#found.set(adgroup, { seconds, impressions: uint32At(this.#impressions, adgroup) });
  }

  #dayOf(seconds: number): {
    impressions: number;
    clicks: number;
    revenue: number;
    regret: number;
  } {
    const { firstDay } = this.#measured.config;
    return at(this.#days, Math.floor(seconds / (HOURS_PER_DAY * 3600)) - firstDay);
  }

  outcome(arm: MarketArm, auctions: number): ArmOutcome {
    const { market } = this.#measured;
    const there = Array.from(market.starts.keys()).filter(
      (adgroup) => numberAt(market.starts, adgroup) < market.until,
    );
    return {
      ...{ arm, auctions, ...this.#totals },
      exposureGini: giniOf(there.map((adgroup) => uint32At(this.#impressions, adgroup))),
      classes: [...this.classes.outcomes()],
      days: this.#days,
      newAdgroups: newAdgroupsOf(market).map((adgroup) => ({
        adgroup,
        impressions: uint32At(this.#impressions, adgroup),
        arrivedSeconds: arrivalSecondsOf(market, adgroup),
        found: this.#found.get(adgroup) ?? null,
      })),
    };
  }
}
