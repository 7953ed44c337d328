/** Auctions, budgets and measures of a market, on numbers that were worked out by hand. */

import { describe, expect, it } from 'vitest';
import { giniOf } from '../../../coordinator/market/arm-outcome.js';
import {
  bestPlace,
  clickPrice,
  mayBid,
  type AuctionTerms,
  type Bidding,
} from '../../../coordinator/market/auction.js';
import { Budgets, sizeClassesOf } from '../../../coordinator/market/budgets.js';
import { barOf } from '../../../coordinator/market/market-bar.js';
import { intervalOver } from '../../../coordinator/market/seed-intervals.js';

const SECOND: AuctionTerms = { price: 'second', reserve: 0 };

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
    expect(bestPlace(bidding, SECOND, 0)).toBe(1);
    expect(clickPrice(bidding, 1, SECOND)).toBeCloseTo(0.08 / 0.2, 12);
  });

  it('charges a winner by exploration what would have kept its place', () => {
    expect(clickPrice(bidding, 0, SECOND)).toBeCloseTo(0.06 / 0.1, 12);
  });

  it('charges the last one nothing but the reserve', () => {
    expect(clickPrice(bidding, 2, SECOND)).toBe(0);
    expect(clickPrice(bidding, 2, { ...SECOND, reserve: 0.03 })).toBeCloseTo(1, 12);
  });

  it('charges the reserve where nobody else reaches it, and sells nothing below it', () => {
    const terms = { ...SECOND, reserve: 0.09 };
    expect([0, 1, 2].map((place) => mayBid(bidding, place, terms))).toEqual([false, true, false]);
    expect(clickPrice(bidding, 1, terms)).toBeCloseTo(0.09 / 0.2, 12);
    expect(bestPlace(bidding, { ...SECOND, reserve: 0.11 }, 0)).toBe(-1);
  });

  it('never charges more than the bid, of equal values the bid itself', () => {
    const equal = biddingOf([1, 0.1], [0.5, 0.2], [0.25, 0.1]);
    expect(clickPrice(equal, 0, SECOND)).toBeCloseTo(1, 12);
    expect(clickPrice(equal, 1, SECOND)).toBeCloseTo(0.5, 12);
  });

  it('draws among equal values, whatever their place', () => {
    const equal = biddingOf([1, 0.1], [0.2, 0.1], [0.5, 0.2], [0.25, 0.4]);
    expect([0, 0.33, 0.34, 0.66, 0.67, 0.999].map((tie) => bestPlace(equal, SECOND, tie))).toEqual([
      0, 0, 2, 2, 3, 3,
    ]);
  });

  it('leaves out who has no budget left', () => {
    expect(bestPlace(biddingOf([0, 0.9], [0.1, 0.1]), SECOND, 0)).toBe(1);
    expect(bestPlace(biddingOf([0, 0.9]), SECOND, 0)).toBe(-1);
  });
});

it('a first-price auction charges the bid', () => {
  const bidding = biddingOf([0.8, 0.1], [0.5, 0.2]);
  expect(clickPrice(bidding, 1, { price: 'first', reserve: 0 })).toBe(0.5);
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
    expect([...budgets.spent]).toEqual([1, 0]);
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

  it('divide advertisers into small, medium and large', () => {
    const classes = sizeClassesOf(Float64Array.of(5, 1, 9, 2, 2), {
      smallShare: 0.4,
      largeShare: 0.2,
    });
    expect(classes).toEqual(['medium', 'small', 'large', 'small', 'medium']);
  });
});

it('the Gini coefficient is 0 of equal counts, and 1 - 1/n where one has all', () => {
  expect(giniOf([3, 3, 3])).toBe(0);
  expect(giniOf([0, 0, 8, 0])).toBeCloseTo(0.75, 12);
  // sum |x_i - x_j| / (2 n^2 mean) = (2 + 6 + 4) * 2 / (2 * 9 * 11/3)
  expect(giniOf([7, 1, 3])).toBeCloseTo(24 / 66, 12);
  expect(giniOf([0, 0])).toBe(0);
});

it('intervals are those of Student', () => {
  // Mean 2, deviation 1, three values: 4.303 / sqrt(3).
  const { value, low, high } = intervalOver([1, 2, 3]) ?? { value: NaN, low: NaN, high: NaN };
  expect(value).toBe(2);
  expect(high - value).toBeCloseTo(4.303 / Math.sqrt(3), 12);
  expect(value - low).toBeCloseTo(high - value, 12);
  expect(intervalOver([1])).toBeNull();
});

describe('the bar', () => {
  const interval = (low: number, high: number) => ({ value: (low + high) / 2, low, high });
  const barFor = (id: string, difference: [number, number], relative: [number, number]) => {
    const arm = 'qianmo-exploring' as const;
    const mean = interval(1, 1);
    const arms = [
      { arm, mean, difference: interval(...difference), relative: interval(...relative) },
    ];
    return barOf([{ id, arms }], []).find(({ measure }) => measure === id);
  };

  it('allows clicks to be lower by a hundredth, which is said where they are not', () => {
    expect(barFor('clicks', [-50, 90], [-0.009, 0.02])).toMatchObject({ holds: true, why: null });
    const missed = barFor('clicks', [-500, -200], [-0.05, -0.02]);
    expect(missed).toMatchObject({ holds: false });
    expect(missed?.why).toContain('It is the other way round. Exploration took');
  });

  it('demands intervals that exclude 0, on the right side', () => {
    expect(barFor('smallClicks', [1, 9], [0.1, 0.2])?.holds).toBe(true);
    expect(barFor('smallClicks', [-1, 9], [0.1, 0.2])?.holds).toBe(false);
    expect(barFor('hoursUntilFound', [-9, -1], [-0.2, -0.1])?.holds).toBe(true);
    expect(barFor('hoursUntilFound', [1, 9], [0.1, 0.2])?.holds).toBe(false);
    expect(barFor('hoursUntilFound', [-1, 9], [0.1, 0.2])?.why).toContain('The interval holds 0');
  });
});
