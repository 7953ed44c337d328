/** The outcome of an arm of the market, and the counting behind it. */

import { z } from 'zod';
import { at, float64At, uint32At } from '../../../shared/base/arrays.js';
import { SIZE_CLASSES, type MarketScene } from './auction.js';
import { arrivalSecondsOf, newAdgroupsOf } from './market-world.js';

const count = z.int().nonnegative();
const amount = z.number().nonnegative();

export const ArmOutcomeSchema = z.strictObject({
  impressions: count,
  clicks: count,
  revenue: amount,
  /** Sums over the impressions: the probability as the arm estimated it, and the true one. */
  predictedClicks: amount,
  expectedClicks: amount,
  /** True value of what was shown, and what the best candidates would have had more. */
  value: amount,
  regret: z.number(),
  /** Impressions by exploration, and the part of the regret that they have. */
  explored: count,
  exploredRegret: z.number(),
  /** Gini coefficient of the impressions of all adgroups that were there. */
  exposureGini: z.number(),
  /** By size of the advertiser, over all days. */
  classes: z.array(
    z.strictObject({
      sizeClass: z.enum(SIZE_CLASSES),
      advertiserCount: count,
      budget: amount,
      spent: amount,
      clicks: count,
    }),
  ),
  /** Adgroups that arrived during the market; `found` is null if it was not found. */
  newAdgroups: z.array(
    z.strictObject({
      adgroup: count,
      impressions: count,
      arrivedSeconds: amount,
      found: z.strictObject({ seconds: amount, impressions: count }).nullable(),
    }),
  ),
});
export type ArmOutcome = z.infer<typeof ArmOutcomeSchema>;

/**
 * Gini coefficient of counts: 0 if all are equal, near 1 if one has all.
 * With x sorted from small to large: sum (2 i - n - 1) x_i / (n sum x), i from 1.
 */
function giniOf(counts: readonly number[]): number {
  const sorted = [...counts].sort((a, b) => a - b);
  let [sum, weighted] = [0, 0];
  for (const [index, value] of sorted.entries()) {
    sum += value;
    weighted += (2 * (index + 1) - sorted.length - 1) * value;
  }
  return sum === 0 ? 0 : weighted / (sorted.length * sum);
}

/** An impression that was sold. */
interface SoldImpression {
  readonly adgroup: number;
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

export class MarketMeasures {
  readonly #scene: MarketScene;
  readonly #impressions: Uint32Array;
  readonly #deservedWins: Uint32Array;
  readonly #found = new Map<number, { readonly seconds: number; readonly impressions: number }>();
  readonly #totals = {
    ...{ impressions: 0, clicks: 0, revenue: 0, predictedClicks: 0, expectedClicks: 0 },
    ...{ value: 0, regret: 0, explored: 0, exploredRegret: 0 },
  };
  readonly #classes: ArmOutcome['classes'];

  constructor(scene: MarketScene) {
    const { market, classes, budgets, settings } = scene;
    this.#scene = scene;
    this.#impressions = new Uint32Array(market.adgroupCount);
    this.#deservedWins = new Uint32Array(market.adgroupCount);
    this.#classes = SIZE_CLASSES.map((sizeClass) => {
      const own = budgets.filter((_, advertiser) => classes[advertiser] === sizeClass);
      const budget = own.reduce((sum, each) => sum + each * settings.days, 0);
      return { sizeClass, advertiserCount: own.length, budget, spent: 0, clicks: 0 };
    });
  }

  /** Counts an auction that sold nothing, although a candidate had a value. */
  unsold(bestValue: number): void {
    this.#totals.regret += bestValue;
  }

  sold(shown: SoldImpression): void {
    const { adgroup, isClick, isExploration, price, value, bestValue } = shown;
    const { market, classes } = this.#scene;
    const regret = bestValue - value;
    this.#impressions[adgroup] = uint32At(this.#impressions, adgroup) + 1;
    const sizeClass = at(classes, uint32At(market.advertiserOf, adgroup));
    const ofClass = at(this.#classes, SIZE_CLASSES.indexOf(sizeClass));
    ofClass.clicks += isClick ? 1 : 0;
    ofClass.spent += price;
    const totals = this.#totals;
    totals.impressions += 1;
    totals.clicks += isClick ? 1 : 0;
    totals.revenue += price;
    totals.predictedClicks += shown.probability;
    totals.expectedClicks += shown.truth;
    totals.value += value;
    totals.regret += regret;
    totals.explored += isExploration ? 1 : 0;
    totals.exploredRegret += isExploration ? regret : 0;
    if (!isExploration && value === bestValue) this.#countDeserved(shown);
  }

  #countDeserved({ adgroup, seconds }: SoldImpression): void {
    const wins = uint32At(this.#deservedWins, adgroup) + 1;
    this.#deservedWins[adgroup] = wins;
    if (wins !== this.#scene.settings.goodAdgroups.wins) return;
    this.#found.set(adgroup, { seconds, impressions: uint32At(this.#impressions, adgroup) });
  }

  outcome(): ArmOutcome {
    const { market } = this.#scene;
    const shown = this.#impressions.filter(
      (_, adgroup) => float64At(market.starts, adgroup) < market.until,
    );
    return {
      ...this.#totals,
      exposureGini: giniOf([...shown]),
      classes: this.#classes,
      newAdgroups: newAdgroupsOf(market).map((adgroup) => ({
        adgroup,
        impressions: uint32At(this.#impressions, adgroup),
        arrivedSeconds: arrivalSecondsOf(market, adgroup),
        found: this.#found.get(adgroup) ?? null,
      })),
    };
  }
}
