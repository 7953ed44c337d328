/** Counts of what the advertisers of each size meet in a market: traffic, estimates, budgets, wins. */

import { at, float64At, uint32At } from '../../shared/base/arrays.js';
import type { MarketConfig } from '../../shared/config/market-config.js';
import type { ClassOutcome } from './arm-outcome.js';
import { SIZE_CLASSES, type SizeClass } from './budgets.js';
import { loggedRowsOf, type MarketWorld } from './world/market-world.js';

export interface ClassedMarket {
  readonly market: MarketWorld;
  readonly classes: readonly SizeClass[];
  /** The budget of a day, by advertiser. */
  readonly budgets: Float64Array;
  readonly config: Pick<MarketConfig, 'days'>;
}

/** A candidate of an auction. */
interface Candidacy {
  readonly advertiser: number;
  /** Its bid if its budget had no end; `bid` is the one that it makes. */
  readonly fullBid: number;
  readonly bid: number;
  readonly probability: number;
  readonly truth: number;
}

interface ShownAdvertiser {
  readonly advertiser: number;
  readonly isClick: boolean;
  /** The price that was charged: 0 without a click. */
  readonly price: number;
  readonly probability: number;
  readonly truth: number;
  readonly isExploration: boolean;
}

type Counted = { -readonly [Key in keyof ClassOutcome]: ClassOutcome[Key] };

export class ClassMeasures {
  readonly #classOf: readonly Counted[];
  readonly #outcomes: readonly Counted[];

  constructor({ market, classes, budgets, config }: ClassedMarket) {
    this.#outcomes = SIZE_CLASSES.map((sizeClass) => ({
      ...{ sizeClass, advertiserCount: 0, adgroupCount: 0, loggedRows: 0, budget: 0 },
      ...{ spent: 0, impressions: 0, explored: 0, clicks: 0 },
      ...{ predictedShown: 0, expectedShown: 0, candidacies: 0, exhausted: 0 },
      ...{ fullBids: 0, bids: 0, predicted: 0, expected: 0, best: 0, bestWon: 0 },
    }));
    this.#classOf = classes.map((sizeClass) => at(this.#outcomes, SIZE_CLASSES.indexOf(sizeClass)));
    for (const [advertiser, counted] of this.#classOf.entries()) {
      counted.advertiserCount += 1;
      counted.budget += float64At(budgets, advertiser) * config.days;
    }
    for (let adgroup = 0; adgroup < market.adgroupCount; adgroup += 1) {
      if (float64At(market.starts, adgroup) >= market.until) continue;
      const counted = at(this.#classOf, uint32At(market.advertiserOf, adgroup));
      counted.adgroupCount += 1;
      counted.loggedRows += loggedRowsOf(market, adgroup);
    }
  }

  candidate({ advertiser, fullBid, bid, probability, truth }: Candidacy): void {
    const counted = at(this.#classOf, advertiser);
    counted.candidacies += 1;
    counted.fullBids += fullBid;
    counted.bids += bid;
    if (bid === 0) {
      counted.exhausted += 1;
      return;
    }
    counted.predicted += probability;
    counted.expected += truth;
  }

  /** An auction in which this advertiser had the truly best candidate. */
  best(advertiser: number, isWon: boolean): void {
    const counted = at(this.#classOf, advertiser);
    counted.best += 1;
    counted.bestWon += isWon ? 1 : 0;
  }

  sold({ advertiser, isClick, price, probability, truth, isExploration }: ShownAdvertiser): void {
    const counted = at(this.#classOf, advertiser);
    counted.impressions += 1;
    counted.clicks += isClick ? 1 : 0;
    counted.spent += price;
    counted.explored += isExploration ? 1 : 0;
    counted.predictedShown += probability;
    counted.expectedShown += truth;
  }

  outcomes(): readonly ClassOutcome[] {
    return this.#outcomes;
  }
}
