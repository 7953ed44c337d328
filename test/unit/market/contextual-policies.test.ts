/** Contextual policies in a market: what they learn of its impressions and when, and that it helps. */

import { describe, expect, it } from 'vitest';
import { MarketFeedback } from '../../../coordinator/market/market-feedback.js';
import { simulateArm } from '../../../coordinator/market/simulate-arm.js';
import { namedValuesOf } from '../../../coordinator/market/world/market-rows.js';
import { marketServing } from '../../../infra/library/market/market-serving.js';
import type { ExplorationPolicy } from '../../../shared/config/exploration-config.js';
import { armWith, sceneOf, smallMarketConfig } from '../../fixtures/market-scene.js';

const signal = new AbortController().signal;
const CONTEXTUAL = ['lin-ucb', 'logistic-thompson'] as const;

/** Every impression is the policy's to choose, so that what it learns decides the market. */
function marketLedBy(policy: ExplorationPolicy, columns: readonly string[] = []) {
  return smallMarketConfig({
    bids: { deviation: 0.01 },
    budgets: { pressure: 100 },
    pacing: { gain: 0 },
    auction: { reserve: 0 },
    traffic: { auctionsPerDay: 500, candidates: 6 },
    exploration: {
      ...{ policy, weight: 0.3, share: { kind: 'fixed', share: 1 }, classes: [] },
      cutOff: { impressions: 1_000_000 },
      weights: { columns, dimension: 32, precision: 1 },
    },
  });
}

describe('the weights of lin-ucb in a market', () => {
  const { config, auctions } = sceneOf(marketLedBy('lin-ucb'), 1);
  const { windowSeconds } = config.exploration.feedback;
  const { clickDelaySeconds } = config.feedback;

  it('learn from an impression once its click is heard of or its window has ended', () => {
    const { evidence, learned } = marketServing().openExploration(config.exploration);
    const feedback = new MarketFeedback(auctions, { clickDelaySeconds, windowSeconds, evidence });
    const lesson = learned?.lessonOf({ adgroup: '7', probability: 0.1, values: [] }) ?? null;
    expect(lesson?.places).toHaveLength(2);
    // With n impressions of residual r in all, A = I + n x x', so the mean is p + r / (1 + n) and the variance 1 / (1 + n).
    const expectKnown = (mean: number, variance: number): void => {
      const context = learned?.contextOf(lesson === null ? [] : [lesson]);
      if (context?.kind !== 'linear') throw new Error('lin-ucb has a linear context');
      expect(context.means[0]).toBeCloseTo(mean, 12);
      expect(context.deviations[0]).toBeCloseTo(Math.sqrt(variance), 12);
    };
    const [first = NaN, second = NaN] = auctions.seconds;
    expectKnown(0.1, 1);
    feedback.shown(0, 7, true, lesson);
    feedback.shown(1, 7, false, lesson);
    feedback.arrive(second);
    expectKnown(0.1, 1);
    feedback.arrive(Math.max(second, first + clickDelaySeconds));
    expectKnown(0.1 + 0.9 / 2, 1 / 2);
    feedback.arrive(second + windowSeconds);
    expectKnown(0.1 + 0.9 / 2, 1 / 2);
    feedback.arrive(second + windowSeconds + 3_600);
    expectKnown(0.1 + (0.9 - 0.1) / 3, 1 / 3);
  });
});

it('columns are those of the log, with their names, as a server spells them', () => {
  const { market, auctions } = sceneOf(marketLedBy('lin-ucb'), 1);
  const valuesOf = namedValuesOf(market, auctions, ['slot', 'category', 'price']);
  const { categories, priceCents } = market.world.adgroups;
  expect(valuesOf(3, 5)).toEqual([
    `slot=${auctions.slots[3]}`,
    `category=${categories[5]}`,
    `price=${(priceCents[5] ?? NaN) / 100}`,
  ]);
  expect(() => namedValuesOf(market, auctions, ['slot', 'colour'])).toThrow(/no column "colour"/);
});

describe.each(CONTEXTUAL)('a market led by %s', (policy) => {
  const clicksOf = async (leader: ExplorationPolicy, columns: readonly string[]) => {
    const scene = sceneOf(marketLedBy(leader, columns), 4);
    // The estimate is 0.1 for everybody, and bids are nearly equal.
    return simulateArm(scene, 'qianmo-exploring', armWith(scene, 0, true), signal);
  };

  it('is clicked more often than one led by equal chances, and the same again', async () => {
    const led = await clicksOf(policy, ['category']);
    const equal = await clicksOf('epsilon-greedy', []);
    expect(led.expectedClicks).toBeGreaterThan(1.2 * equal.expectedClicks);
    expect(await clicksOf(policy, ['category'])).toEqual(led);
  });
});
