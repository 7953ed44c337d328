/** The outcome of an arm of the market, as it is kept for each seed. */

import { z } from 'zod';
import { SIZE_CLASSES } from './budgets.js';

/** In the order in which they are shown. */
export const MARKET_ARMS = ['global', 'qianmo', 'qianmo-exploring', 'oracle'] as const;
export type MarketArm = (typeof MARKET_ARMS)[number];

const count = z.int().nonnegative();
const amount = z.number().nonnegative();

const ClassOutcomeSchema = z.strictObject({
  sizeClass: z.enum(SIZE_CLASSES),
  advertiserCount: count,
  /** Adgroups that are there before the market ends, and the rows that the log is expected to have of them. */
  adgroupCount: count,
  loggedRows: amount,
  /** The sum over all days. */
  budget: amount,
  spent: amount,
  impressions: count,
  explored: count,
  clicks: count,
  /** Sums over impressions: the probability as the arm estimated it, and the true one. */
  predictedShown: amount,
  expectedShown: amount,
  /** Candidates of auctions, and those without budget among them. */
  candidacies: count,
  exhausted: count,
  /** Sums over candidates: bids, and bids as they were after pacing and within the budget. */
  fullBids: amount,
  bids: amount,
  /** Sums over candidates with budget: the estimated and the true probability. */
  predicted: amount,
  expected: amount,
  /** Auctions in which one of its candidates was truly best, and those of them that it won with that candidate. */
  best: count,
  bestWon: count,
});
export type ClassOutcome = z.infer<typeof ClassOutcomeSchema>;

const DayOutcomeSchema = z.strictObject({
  impressions: count,
  clicks: count,
  revenue: amount,
  regret: z.number(),
});

/** An adgroup that arrived during the market. */
const NewAdgroupSchema = z.strictObject({
  adgroup: count,
  impressions: count,
  arrivedSeconds: amount,
  /** Null if it was not found. */
  found: z.strictObject({ seconds: amount, impressions: count }).nullable(),
});

export const ArmOutcomeSchema = z.strictObject({
  arm: z.enum(MARKET_ARMS),
  auctions: count,
  impressions: count,
  clicks: count,
  revenue: amount,
  /** Sums over the impressions: the probability as the arm estimated it, and the true one. */
  predictedClicks: amount,
  expectedClicks: amount,
  /** True value of what was shown, and what the auction with the best candidate would have had more. */
  value: amount,
  regret: z.number(),
  /** Impressions by exploration, and the part of the regret that they have. */
  explored: count,
  exploredRegret: z.number(),
  /** Gini coefficient of the impressions of all adgroups that were there. */
  exposureGini: z.number(),
  classes: z.array(ClassOutcomeSchema),
  days: z.array(DayOutcomeSchema),
  newAdgroups: z.array(NewAdgroupSchema),
});
export type ArmOutcome = z.infer<typeof ArmOutcomeSchema>;

/**
 * Gini coefficient of counts: 0 if all are equal, near 1 if one has all.
 * With x sorted from small to large: sum (2 i - n - 1) x_i / (n sum x), i from 1.
 */
export function giniOf(counts: readonly number[]): number {
  const sorted = [...counts].sort((a, b) => a - b);
  let [sum, weighted] = [0, 0];
  for (const [index, value] of sorted.entries()) {
    sum += value;
    weighted += (2 * (index + 1) - sorted.length - 1) * value;
  }
  return sum === 0 ? 0 : weighted / (sorted.length * sum);
}
