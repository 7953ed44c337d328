/** Budgets of a day and their pacing: no advertiser spends more than it has. */

import { float64At, uint32At } from '../../shared/base/arrays.js';

interface PacingTerms {
  /** 0 leaves every multiplier at 1. */
  readonly gain: number;
  readonly multiplierMin: number;
}

const HOURS_PER_DAY = 24;

export class Budgets {
  readonly #budgets: Float64Array;
  readonly #terms: PacingTerms;
  readonly #spentToday: Float64Array;
  readonly #multipliers: Float64Array;
  /** The spending of all days together, `[advertiserCount]`. */
  readonly spent: Float64Array;

  /** @param budgets of a day, `[advertiserCount]` */
  constructor(budgets: Float64Array, terms: PacingTerms) {
    this.#budgets = budgets;
    this.#terms = terms;
    this.#spentToday = new Float64Array(budgets.length);
    this.#multipliers = new Float64Array(budgets.length).fill(1);
    this.spent = new Float64Array(budgets.length);
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
    this.spent[advertiser] = float64At(this.spent, advertiser) + price;
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

export function sizeClassesOf(
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
