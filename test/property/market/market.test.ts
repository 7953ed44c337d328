/** What holds in every market: money and clicks add up, nobody overspends, and nothing beats the truth. */

import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import type { ArmOutcome } from '../../../coordinator/market/arm-outcome.js';
import { Budgets } from '../../../coordinator/market/budgets.js';
import { simulateArm } from '../../../coordinator/market/simulate-arm.js';
import { armWith, sceneOf, smallMarketConfig } from '../../fixtures/market-scene.js';

const signal = new AbortController().signal;

const drawn = fc.record({
  seed: fc.integer({ min: 0, max: 1000 }),
  price: fc.constantFrom('first', 'second'),
  reserve: fc.constantFrom(0, 0.01, 0.08),
  pressure: fc.constantFrom(0.05, 0.5, 3),
  gain: fc.constantFrom(0, 0.3),
  power: fc.constantFrom(-1, 0, 0.5, 1),
  isExploring: fc.boolean(),
});

interface Settings {
  readonly seed: number;
  readonly price: 'first' | 'second';
  readonly reserve: number;
  readonly pressure: number;
  readonly gain: number;
  readonly power: number;
  readonly isExploring: boolean;
}

async function outcomeOf({ seed, price, reserve, pressure, gain, ...arm }: Settings) {
  const config = smallMarketConfig({
    auction: { price, reserve },
    budgets: { pressure },
    pacing: { gain },
    exploration: { share: { kind: 'fixed', share: 0.3 } },
  });
  const scene = sceneOf(config, seed);
  const served = armWith(scene, arm.power, arm.isExploring);
  return { scene, outcome: await simulateArm(scene, 'global', served, signal) };
}

function sumOf<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0);
}

function expectConserved({ classes, days, ...outcome }: ArmOutcome): void {
  expect(sumOf(classes, ({ spent }) => spent)).toBeCloseTo(outcome.revenue, 8);
  expect(sumOf(days, ({ revenue }) => revenue)).toBeCloseTo(outcome.revenue, 8);
  for (const parts of [classes, days]) {
    expect(sumOf<{ clicks: number }>(parts, ({ clicks }) => clicks)).toBe(outcome.clicks);
    expect(sumOf<{ impressions: number }>(parts, (part) => part.impressions)).toBe(
      outcome.impressions,
    );
  }
  expect(sumOf(days, ({ regret }) => regret)).toBeCloseTo(outcome.regret, 8);
  for (const { spent, budget, clicks, impressions } of classes) {
    expect(spent).toBeLessThanOrEqual(budget * (1 + 1e-12));
    expect(clicks).toBeLessThanOrEqual(impressions);
  }
  expect(outcome.impressions).toBeLessThanOrEqual(outcome.auctions);
  expect(outcome.regret).toBeGreaterThanOrEqual(0);
  expect(outcome.exploredRegret).toBeLessThanOrEqual(outcome.regret + 1e-12);
}

describe('a market', () => {
  it('conserves money and clicks, and keeps within budgets', async () => {
    await fc.assert(
      fc.asyncProperty(drawn, async (settings) => {
        const { outcome } = await outcomeOf(settings);
        expectConserved(outcome);
        if (!settings.isExploring) expect(outcome.explored).toBe(0);
      }),
      { numRuns: 25 },
    );
  });

  it('charges every advertiser no more than its budgets, and in all what it earns', async () => {
    const charge = vi.spyOn(Budgets.prototype, 'charge');
    try {
      const settings = { seed: 3, price: 'second', reserve: 0.01, pressure: 0.3, gain: 0 } as const;
      const { scene, outcome } = await outcomeOf({ ...settings, power: 1, isExploring: true });
      const charged = charge.mock.calls.map(([advertiser, price]) => ({ advertiser, price }));
      expect(sumOf(charged, ({ price }) => price)).toBeCloseTo(outcome.revenue, 8);
      expect(charged).toHaveLength(outcome.clicks);
      for (const [advertiser, budget] of scene.budgets.entries()) {
        const own = charged.filter((each) => each.advertiser === advertiser);
        expect(sumOf(own, ({ price }) => price)).toBeLessThanOrEqual(
          budget * scene.config.days * (1 + 1e-12),
        );
      }
    } finally {
      charge.mockRestore();
    }
  });

  it('is the same again, from its seed', async () => {
    const settings = { seed: 5, price: 'second', reserve: 0, pressure: 0.5, gain: 0.3 } as const;
    const arm = { power: 0.5, isExploring: true };
    const [first, second] = [
      await outcomeOf({ ...settings, ...arm }),
      await outcomeOf({ ...settings, ...arm }),
    ];
    expect(second.outcome).toEqual(first.outcome);
    expect((await outcomeOf({ ...settings, ...arm, seed: 6 })).outcome).not.toEqual(first.outcome);
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
      { numRuns: 5 },
    );
  });

  it('gives the truth at least the value of any arm where budgets do not end', async () => {
    const settings = { seed: 8, price: 'second', reserve: 0, pressure: 100, gain: 0 } as const;
    const valueOf = async (power: number): Promise<number> =>
      (await outcomeOf({ ...settings, power, isExploring: false })).outcome.value;
    const values = [await valueOf(1), await valueOf(0.5), await valueOf(0), await valueOf(-1)];
    expect(values).toEqual([...values].sort((a, b) => b - a));
    expect(new Set(values).size).toBe(4);
  });
});
