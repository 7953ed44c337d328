/** The rules of an auction of one place, the budgets that bound its bids, and the scene of all arms. */

import { float64At, uint32At } from '../../../shared/base/arrays.js';
import { drawAuctions, type AuctionStream } from './auction-stream.js';
import type { MarketSettings } from './market-settings.js';
import { budgetsOf, type MarketWorld } from './market-world.js';

const HOURS_PER_DAY = 24;

type AuctionTerms = Pick<MarketSettings, 'reserve'>;

/** The candidates of an auction; the first `count` entries of each array are valid. */
export interface Bidding {
  readonly count: number;
  /** What a click is worth to each candidate now; 0 for one that has no budget left. */
  readonly bids: Float64Array;
  /** Probability of a click, as the arm estimates it. */
  readonly probabilities: Float64Array;
}

/** The value of an impression: what the place is expected to earn at most. */
export function valueOf({ bids, probabilities }: Bidding, place: number): number {
  return float64At(bids, place) * float64At(probabilities, place);
}

export function mayBid(bidding: Bidding, place: number, { reserve }: AuctionTerms): boolean {
  const value = valueOf(bidding, place);
  return value > 0 && value >= reserve;
}

/**
 * The place of the largest value that reaches the reserve. Equal values are drawn from: `tie`, uniform
 * in [0, 1), chooses among them.
 *
 * @returns -1 if no candidate may bid.
 */
export function bestPlace(bidding: Bidding, terms: AuctionTerms, tie: number): number {
  let [best, largest, tieCount] = [-1, 0, 0];
  for (let place = 0; place < bidding.count; place += 1) {
    const value = valueOf(bidding, place);
    if (!mayBid(bidding, place, terms) || value < largest) continue;
    tieCount = value === largest ? tieCount + 1 : 1;
    [best, largest] = [place, value];
  }
  if (tieCount < 2) return best;
  let left = Math.floor(tie * tieCount);
  for (let place = 0; place < bidding.count; place += 1)
    if (valueOf(bidding, place) === largest && left-- === 0) return place;
  return best;
}

/**
 * What a click costs the winner, whoever it is: its bid in a first-price auction; in a second-price
 * auction the least bid that would have kept it above the candidates below it,
 *
 *   max(reserve, the largest value that does not exceed the winner's) / probability of the winner
 *
 * (the rule of the generalised second price, Edelman, Ostrovsky and Schwarz 2007). A winner by exploration
 * has candidates above it, which do not count. The price never exceeds the bid.
 */
export function clickPrice(bidding: Bidding, winner: number, terms: AuctionTerms): number {
  const bid = float64At(bidding.bids, winner);
  const own = valueOf(bidding, winner);
  let below = terms.reserve;
  for (let place = 0; place < bidding.count; place += 1) {
    const value = valueOf(bidding, place);
    if (place !== winner && value <= own) below = Math.max(below, value);
  }
  return Math.min(bid, below / float64At(bidding.probabilities, winner));
}

/** The expected revenue of a day if every auction went to the truly best candidate and no budget ended. */
function bestDailyRevenue(
  { bids }: Pick<MarketWorld, 'bids'>,
  auctions: AuctionStream,
  { days, reserve }: Pick<MarketSettings, 'reserve' | 'days'>,
): number {
  const { candidatesMax, candidates, candidateCounts, truth, count } = auctions;
  const bidding = {
    count: 0,
    bids: new Float64Array(candidatesMax),
    probabilities: new Float64Array(candidatesMax),
  };
  let revenue = 0;
  for (let auction = 0; auction < count; auction += 1) {
    const first = auction * candidatesMax;
    bidding.count = uint32At(candidateCounts, auction);
    for (let place = 0; place < bidding.count; place += 1) {
      bidding.bids[place] = float64At(bids, uint32At(candidates, first + place));
      bidding.probabilities[place] = float64At(truth, first + place);
    }
    const winner = bestPlace(bidding, { reserve }, float64At(auctions.tieDraws, auction));
    if (winner < 0) continue;
    revenue += clickPrice(bidding, winner, { reserve }) * float64At(bidding.probabilities, winner);
  }
  return revenue / days;
}

/** The budgets of a day and their pacing: no advertiser spends more than it has. */
export class Budgets {
  readonly #budgets: Float64Array;
  readonly #terms: MarketSettings['pacing'];
  readonly #spentToday: Float64Array;
  readonly #multipliers: Float64Array;

  /** @param budgets of a day, `[advertiserCount]` */
  constructor(budgets: Float64Array, terms: MarketSettings['pacing']) {
    this.#budgets = budgets;
    this.#terms = terms;
    this.#spentToday = new Float64Array(budgets.length);
    this.#multipliers = new Float64Array(budgets.length).fill(1);
  }

  /** What an advertiser bids now, paced and within what is left of the day's budget. */
  bidOf(advertiser: number, bid: number): number {
    return Math.min(float64At(this.#multipliers, advertiser) * bid, this.#leftOf(advertiser));
  }

  /** @throws Error if the price exceeds what is left, which no bid does. */
  charge(advertiser: number, price: number): void {
    if (price > this.#leftOf(advertiser))
      throw new Error(`advertiser ${advertiser} is charged more than is left of its budget`);
    this.#spentToday[advertiser] = float64At(this.#spentToday, advertiser) + price;
  }

  /** A day begins with whole budgets; multipliers are kept. */
  beginDay(): void {
    this.#spentToday.fill(0);
  }

  /**
   * Moves every multiplier by exp(gain * e), where e is what should have been spent by now minus what was, in
   * hours of an even day's spending and at most 1.
   *
   * @param trafficShare of the day that has passed
   */
  pace(trafficShare: number): void {
    const { gain, multiplierMin } = this.#terms;
    if (gain === 0) return;
    for (let advertiser = 0; advertiser < this.#budgets.length; advertiser += 1) {
      const budget = float64At(this.#budgets, advertiser);
      if (budget === 0) continue;
      const behind = trafficShare - float64At(this.#spentToday, advertiser) / budget;
      const error = Math.max(-1, Math.min(1, behind * HOURS_PER_DAY));
      const moved = float64At(this.#multipliers, advertiser) * Math.exp(gain * error);
      this.#multipliers[advertiser] = Math.max(multiplierMin, Math.min(1, moved));
    }
  }

  #leftOf(advertiser: number): number {
    const left = float64At(this.#budgets, advertiser) - float64At(this.#spentToday, advertiser);
    return Math.max(0, left);
  }
}

/**
 * Small, medium or large by budget: the given shares of all advertisers, those with least and most. Equal
 * budgets are in the order of their numbers.
 */
export const SIZE_CLASSES = ['small', 'medium', 'large'] as const;
export type SizeClass = (typeof SIZE_CLASSES)[number];

function sizeClassesOf(
  budgets: Float64Array,
  { smallShare, largeShare }: { readonly smallShare: number; readonly largeShare: number },
): SizeClass[] {
  const order = Uint32Array.from(budgets.keys());
  order.sort((a, b) => float64At(budgets, a) - float64At(budgets, b) || a - b);
  const smallCount = Math.round(smallShare * budgets.length);
  const largeFrom = budgets.length - Math.round(largeShare * budgets.length);
  const classes = Array.from(budgets, (): SizeClass => 'medium');
  for (let rank = 0; rank < order.length; rank += 1)
    if (rank < smallCount) classes[uint32At(order, rank)] = 'small';
    else if (rank >= largeFrom) classes[uint32At(order, rank)] = 'large';
  return classes;
}

export interface MarketScene {
  readonly settings: MarketSettings;
  readonly market: MarketWorld;
  readonly auctions: AuctionStream;
  /** Of a day, `[advertiserCount]`. */
  readonly budgets: Float64Array;
  readonly classes: readonly SizeClass[];
}

export function sceneOf(settings: MarketSettings, market: MarketWorld): MarketScene {
  const auctions = drawAuctions(market, settings);
  const revenue = bestDailyRevenue(market, auctions, settings);
  const budgets = budgetsOf(market, settings.budgets.pressure * revenue);
  const classes = sizeClassesOf(budgets, settings.budgets);
  return { settings, market, auctions, budgets, classes };
}
