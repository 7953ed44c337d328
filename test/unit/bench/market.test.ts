/** The market of the benches: its rules on numbers worked out by hand, what holds in every market, and policies. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EvidenceLedger } from '../../../worker/serving/exploration/evidence-ledger.js';
import { type ArmOutcome } from '../../bench/market/arm-outcome.js';
import {
  bestPlace,
  Budgets,
  clickPrice,
  mayBid,
  sceneOf,
  type Bidding,
  type MarketScene,
} from '../../bench/market/auction.js';
import { MARKET, type MarketSettings } from '../../bench/market/market-settings.js';
import { marketWorldOf } from '../../bench/market/market-world.js';
import type { ServedArm } from '../../bench/market/served-arms.js';
import { simulateArm } from '../../bench/market/simulate-arm.js';

const FREE = { reserve: 0 };

function biddingOf(...pairs: readonly (readonly [bid: number, probability: number])[]): Bidding {
  return {
    count: pairs.length,
    bids: Float64Array.from(pairs, ([bid]) => bid),
    probabilities: Float64Array.from(pairs, ([, probability]) => probability),
  };
}

describe('a second-price auction', () => {
  // Values: 0.08, 0.1, 0.06.
  const bidding = biddingOf([0.8, 0.1], [0.5, 0.2], [2, 0.03]);

  it('is won by value, and a click costs the least bid that would have won', () => {
    expect(bestPlace(bidding, FREE, 0)).toBe(1);
    expect(clickPrice(bidding, 1, FREE)).toBeCloseTo(0.08 / 0.2, 12);
  });

  it('charges a winner by exploration what would have kept its place', () => {
    expect(clickPrice(bidding, 0, FREE)).toBeCloseTo(0.06 / 0.1, 12);
  });

  it('charges the reserve where nobody else reaches it, and sells nothing below it', () => {
    const terms = { reserve: 0.09 };
    expect([0, 1, 2].map((place) => mayBid(bidding, place, terms))).toEqual([false, true, false]);
    expect(clickPrice(bidding, 1, terms)).toBeCloseTo(0.09 / 0.2, 12);
    expect(bestPlace(bidding, { reserve: 0.11 }, 0)).toBe(-1);
  });

  it('leaves out who has no budget left', () => {
    expect(bestPlace(biddingOf([0, 0.9], [0.1, 0.1]), FREE, 0)).toBe(1);
    expect(bestPlace(biddingOf([0, 0.9]), FREE, 0)).toBe(-1);
  });
});

describe('budgets', () => {
  it('bound bids by what is left of the day, and begin anew', () => {
    const budgets = new Budgets(Float64Array.of(1, 5), { gain: 0, multiplierMin: 0.1 });
    budgets.charge(0, 0.75);
    expect([budgets.bidOf(0, 2), budgets.bidOf(1, 2)]).toEqual([0.25, 2]);
    budgets.charge(0, 0.25);
    expect(budgets.bidOf(0, 2)).toBe(0);
    expect(() => budgets.charge(0, 0.01)).toThrow(/more than is left/);
    budgets.beginDay();
    expect(budgets.bidOf(0, 2)).toBe(1);
  });

  it('are paced: who is ahead of an even day bids less, and who is behind more, up to its bid', () => {
    const budgets = new Budgets(Float64Array.of(24, 24), { gain: 0.5, multiplierMin: 0.1 });
    budgets.charge(0, 3);
    budgets.charge(1, 1.5);
    // An hour of 24 has passed: one is ahead by two hours of spending, which counts as one, the other by half of one.
    budgets.pace(1 / 24);
    expect(budgets.bidOf(0, 1)).toBeCloseTo(Math.exp(-0.5), 12);
    expect(budgets.bidOf(1, 1)).toBeCloseTo(Math.exp(-0.25), 12);
    // Half of the day has passed: both are far behind.
    budgets.pace(0.5);
    expect([budgets.bidOf(0, 1), budgets.bidOf(1, 1)]).toEqual([1, 1]);
    for (let hour = 0; hour < 20; hour += 1) budgets.pace(0);
    expect(budgets.bidOf(0, 1)).toBeCloseTo(0.1, 12);
  });
});

/** A small market without models. */
function smallScene(changes: Partial<MarketSettings>, seed: number): MarketScene {
  const settings: MarketSettings = {
    ...MARKET,
    world: { ...MARKET.world, rows: 4_000, adgroups: 60, users: 200 },
    ...{ days: 2, auctionsPerDay: 300, candidates: 6 },
    ...changes,
  };
  return sceneOf(settings, marketWorldOf(settings, seed));
}

/** Estimates the truth to a power: 1 is the oracle, 0 knows nothing, and below 0 is wrong. */
function armWith(
  { auctions, settings: { exploration } }: MarketScene,
  power: number,
  isExploring: boolean,
): ServedArm {
  return {
    bundle: `truth^${power}`,
    estimate: (auction, probabilities) => {
      const first = auction * auctions.candidatesMax;
      for (let place = 0; place < auctions.candidatesMax; place += 1)
        probabilities[place] = Math.min(
          1,
          0.1 * (10 * (auctions.truth[first + place] ?? 0)) ** power,
        );
    },
    explorer: isExploring
      ? {
          settings: exploration,
          evidence: new EvidenceLedger(exploration.feedback),
          loggedImpressionsOf: () => 0,
        }
      : null,
    refresh: null,
  };
}

const signal = new AbortController().signal;

const drawn = fc.record({
  seed: fc.integer({ min: 0, max: 1000 }),
  reserve: fc.constantFrom(0, 0.01, 0.08),
  pressure: fc.constantFrom(0.05, 0.5, 3),
  gain: fc.constantFrom(0, 0.3),
  power: fc.constantFrom(-1, 0, 0.5, 1),
  isExploring: fc.boolean(),
});

interface Settings {
  readonly seed: number;
  readonly reserve: number;
  readonly pressure: number;
  readonly gain: number;
  readonly power: number;
  readonly isExploring: boolean;
}

async function outcomeOf({ seed, reserve, pressure, gain, ...arm }: Settings) {
  const exploration = { ...MARKET.exploration, share: { kind: 'fixed', share: 0.3 } as const };
  const budgets = { ...MARKET.budgets, pressure };
  const pacing = { ...MARKET.pacing, gain };
  const scene = smallScene({ reserve, budgets, pacing, exploration }, seed);
  const served = armWith(scene, arm.power, arm.isExploring);
  return { scene, outcome: await simulateArm(scene, served, signal) };
}

function sumOf<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0);
}

function expectConserved({ classes, ...outcome }: ArmOutcome, auctionCount: number): void {
  expect(sumOf(classes, ({ spent }) => spent)).toBeCloseTo(outcome.revenue, 8);
  expect(sumOf(classes, ({ clicks }) => clicks)).toBe(outcome.clicks);
  for (const { spent, budget } of classes) expect(spent).toBeLessThanOrEqual(budget * (1 + 1e-12));
  expect(outcome.clicks).toBeLessThanOrEqual(outcome.impressions);
  expect(outcome.impressions).toBeLessThanOrEqual(auctionCount);
  expect(outcome.regret).toBeGreaterThanOrEqual(0);
  expect(outcome.exploredRegret).toBeLessThanOrEqual(outcome.regret + 1e-12);
}

describe('a market', () => {
  it('conserves money and clicks, and keeps within budgets', async () => {
    await fc.assert(
      fc.asyncProperty(drawn, async (settings) => {
        const { outcome, scene } = await outcomeOf(settings);
        expectConserved(outcome, scene.auctions.count);
        if (!settings.isExploring) expect(outcome.explored).toBe(0);
      }),
      { numRuns: 8 },
    );
  });

  it('has no regret under the truth, and some under anything else that does not order alike', async () => {
    await fc.assert(
      fc.asyncProperty(drawn, async (settings) => {
        const free = { ...settings, reserve: 0, isExploring: false };
        const oracle = await outcomeOf({ ...free, power: 1 });
        expect(oracle.outcome.regret).toBe(0);
        const wrong = await outcomeOf({ ...free, power: -1 });
        expect(wrong.outcome.regret).toBeGreaterThan(0);
      }),
      { numRuns: 3 },
    );
  });
});
