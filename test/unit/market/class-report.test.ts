/** Who wins what, by size of the advertiser: shares, calibration, and spending as a product. */

import { beforeAll, describe, expect, it } from 'vitest';
import type { MarketArm } from '../../../coordinator/market/arm-outcome.js';
import {
  classFacts,
  classReportOf,
  type ClassFacts,
  type ClassReport,
} from '../../../coordinator/market/class-report.js';
import { smallAdvertisers } from '../../../coordinator/market/market-bar.js';
import { loggedRowsOf } from '../../../coordinator/market/world/market-world.js';
import { outcomeOf, type SeedOutcome } from '../../../coordinator/market/seed-measures.js';
import { simulateArm } from '../../../coordinator/market/simulate-arm.js';
import { armWith, sceneOf, smallMarketConfig } from '../../fixtures/market-scene.js';

const SIZES = ['small', 'medium', 'large'] as const;
/** How much each arm knows of the truth. */
const POWERS = { global: 0.3, qianmo: 0.8, 'qianmo-exploring': 0.8, oracle: 1 } as const;

let seed: SeedOutcome;
let report: ClassReport;
beforeAll(async () => {
  const scene = sceneOf(smallMarketConfig(), 5);
  const arms = [];
  for (const [arm, power] of Object.entries(POWERS) as [MarketArm, number][]) {
    const served = armWith(scene, power, arm === 'qianmo-exploring');
    arms.push(await simulateArm(scene, arm, served, new AbortController().signal));
  }
  seed = { seed: 5, arms };
  report = classReportOf([seed]);
});

function factsOf(arm: MarketArm, size: (typeof SIZES)[number]): ClassFacts {
  return classFacts(report, arm, size)!;
}

describe('the facts of the advertisers of a size', () => {
  it('are parts of a whole', () => {
    for (const arm of Object.keys(POWERS) as MarketArm[])
      for (const share of ['candidateShare', 'deservedShare', 'impressionShare'] as const)
        expect(SIZES.reduce((sum, size) => sum + factsOf(arm, size)[share]!, 0)).toBeCloseTo(1, 12);
  });

  it('of one who knows the truth: it wins what it deserves, and predicts what happens', () => {
    for (const size of SIZES)
      expect(factsOf('oracle', size)).toMatchObject({
        ...{ wonOfDeserved: 1, exploredShare: 0 },
        shownCalibration: expect.closeTo(1, 12) as number,
        candidateCalibration: expect.closeTo(1, 12) as number,
      });
    expect(factsOf('global', 'medium').wonOfDeserved).toBeLessThan(1);
  });

  it('multiply to what they spend, against global', () => {
    for (const arm of ['qianmo', 'qianmo-exploring', 'oracle'] as const)
      for (const [place, size] of SIZES.entries()) {
        const { impressionsChange, clickRateChange, priceChange } = factsOf(arm, size);
        const product = (1 + impressionsChange!) * (1 + clickRateChange!) * (1 + priceChange!);
        const spent = (of: MarketArm): number => outcomeOf(seed, of).classes[place]!.spent;
        expect(product).toBeCloseTo(spent(arm) / spent('global'), 10);
      }
  });

  it('are told in sentences with figures', () => {
    const text = Object.values(smallAdvertisers(report)).join(' ');
    expect(text).toContain(`${(100 * factsOf('oracle', 'small').impressionShare!).toFixed(1)} %`);
    expect(text).not.toMatch(/NaN|undefined| - /);
  });
});

it('rows of the log lie evenly over the life of an adgroup', () => {
  const world = { adgroups: { sizes: Uint32Array.of(100, 100, 100) } };
  // Began at the start, in the middle of the log before the market, and after it.
  const starts = Float64Array.of(0, 0.2, 0.6);
  const market = { world, starts, from: 0.4 } as unknown as Parameters<typeof loggedRowsOf>[0];
  expect(loggedRowsOf(market, 0)).toBeCloseTo(40, 10);
  expect(loggedRowsOf(market, 1)).toBeCloseTo(25, 10);
  expect(loggedRowsOf(market, 2)).toBe(0);
});
