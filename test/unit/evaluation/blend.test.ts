/**
 * The weights of a blend: worked by hand, bounded by the best arm, and inside an evaluation. Seen to fail for weights
 * below 0 and for a prior of equal weights.
 */

import { asText } from '../../../coordinator/reports/document/as-text.js';
import { evaluationDocument } from '../../../coordinator/reports/evaluation-document.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitBlend } from '../../../coordinator/scoring/blend-fit.js';
import { blendedOutputs, chooseBlend } from '../../../coordinator/scoring/blend-weights.js';
import { adgroupLosses } from '../../../coordinator/scoring/score-arms.js';
import { sumOf } from '../../../coordinator/scoring/metrics.js';
import { randomStream } from '../../../shared/base/random.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { parseReport, reportJson } from '../../../coordinator/scoring/report-json.js';
import { evaluateFormula, formulaConfig } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const VALUE_LABEL = { loss: 'squared', segment: null, mean: 0, deviation: 1 } as const;

describe('the weights of a blend', () => {
  it('of values are those of ridge regression', () => {
    // One row of value 3 and weight 1, where the arms say 1 and 0 above the centre 1, and the prior is (1, 0).
    const rows = {
      label: VALUE_LABEL,
      clicks: [3],
      impressions: [1],
      deviations: [Float32Array.of(1), Float32Array.of(0)],
      centre: 1,
    };
    // The mean curvature of one impression is (2 + 0) / 2 = 1, so that w minimises (w + 1 - 3)^2 + 2 / 2 (w - 1)^2.
    const weights = fitBlend(rows, Int32Array.of(0), { weights: [1, 0], strength: 2 });
    expect(weights[0]).toBeCloseTo(1.5, 12);
    expect(weights[1]).toBe(0);
  });

  it('of clicks are where the slope of the penalised loss is 0', () => {
    // One row with one click of two; the prior's output 2 is too high, so w < 1.
    const rows = {
      clicks: [1],
      impressions: [2],
      deviations: [Float32Array.of(2)],
      centre: 0,
    };
    const [weight = NaN] = fitBlend(rows, Int32Array.of(0), { weights: [1], strength: 2 });
    const p = sigmoid(2);
    const penalty = 2 * p * (1 - p) * 4;
    expect(2 * (2 * sigmoid(2 * weight) - 1) + penalty * (weight - 1)).toBeCloseTo(0, 9);
    expect(weight).toBeGreaterThan(0);
    expect(weight).toBeLessThan(1);
  });

  it('are never below 0, and are the prior where rows say nothing', () => {
    const rows = {
      clicks: [0, 1],
      impressions: [1, 1],
      deviations: [Float32Array.of(-1, 1), Float32Array.of(3, -3)],
      centre: 0,
    };
    const [, opposite] = fitBlend(rows, Int32Array.of(0, 1), { weights: [1, 0], strength: 0.1 });
    expect(opposite).toBe(0);
    expect(fitBlend(rows, new Int32Array(), { weights: [0.2, 0.8], strength: 1 })).toEqual([
      0.2, 0.8,
    ]);
  });
});

/** Adgroups with a true level each; the arms know it with errors of their own. */
function worldOf(seed: number, adgroupCount: number, noise: readonly number[]) {
  const stream = randomStream(seed, 'blend test');
  const rowsEach = 20;
  const rowCount = adgroupCount * rowsEach;
  const truth = Float64Array.from({ length: rowCount }, () => stream.normal());
  const outputs = noise.map((size) =>
    Float32Array.from(truth, (logit) => logit + size * stream.normal()),
  );
  const rows = {
    starts: Int32Array.from({ length: adgroupCount + 1 }, (_, index) => index * rowsEach),
    clicks: Float32Array.from(truth, (logit) => Number(stream.uniform() < sigmoid(logit))),
    impressions: new Float32Array(rowCount).fill(1),
  };
  const supportRowCounts = Array.from({ length: adgroupCount }, () => stream.below(20));
  const entries = {
    ...{ adgroupCount, drawCount: 1, supportRowCounts },
    impressions: new Float64Array(adgroupCount).fill(rowsEach),
  };
  return { rows, outputs, entries, supportRowCounts };
}

describe('a blend of arms', () => {
  const arms = ['global', 'finetuned', 'meta-adapted'] as const;
  const edges = [5, 10];

  it('is never worse than the best arm on the adgroups that it was fitted to', () => {
    const noises = fc.array(fc.double({ min: 0, max: 3, noNaN: true }), {
      ...{ minLength: 3, maxLength: 3 },
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), noises, (seed, noise) => {
        const { rows, outputs, entries } = worldOf(seed, 12, noise);
        const { losses, heldOut } = chooseBlend({ arms, outputs, centre: 0, rows }, entries, edges);
        const best = Math.min(...outputs.map((output) => sumOf(adgroupLosses(output, rows))));
        expect(sumOf(losses)).toBeLessThanOrEqual(best * (1 + 1e-9));
        // Held out, it may be the best arm of other folds, but nothing beyond the shrinkage that won there.
        expect(Number.isFinite(sumOf(heldOut))).toBe(true);
      }),
      { numRuns: 12 },
    );
  });

  it('beats arms whose errors cancel, held out and on other adgroups', () => {
    const { rows, outputs, entries } = worldOf(3, 60, [1.5, 1.5, 3]);
    const { choice, heldOut } = chooseBlend({ arms, outputs, centre: 0, rows }, entries, edges);
    const best = Math.min(...outputs.map((output) => sumOf(adgroupLosses(output, rows))));
    expect(choice.shrinkage).not.toBeNull();
    expect(sumOf(heldOut)).toBeLessThan(0.95 * best);
    const other = worldOf(4, 60, [1.5, 1.5, 3]);
    const named = new Map(arms.map((arm, index) => [arm, other.outputs[index] ?? rows.clicks]));
    const blended = blendedOutputs(choice, named, other.rows, other.supportRowCounts);
    const bestOther = Math.min(
      ...other.outputs.map((output) => sumOf(adgroupLosses(output, other.rows))),
    );
    expect(sumOf(adgroupLosses(blended, other.rows))).toBeLessThan(0.95 * bestOther);
  });

  it('is the best arm alone where no blend beats it', () => {
    const { rows, entries } = worldOf(5, 40, [0]);
    // Every arm says the same, and it is what the clicks were drawn from: there is nothing to gain.
    const same = new Float32Array(rows.clicks.length);
    const blend = { arms, outputs: [same, same, same], centre: 0, rows };
    const { choice } = chooseBlend(blend, entries, edges);
    expect(choice.shrinkage).toBeNull();
    expect(choice.buckets.map(({ weights }) => weights)).toEqual([
      [1, 0, 0],
      [1, 0, 0],
      [1, 0, 0],
    ]);
  });
});

describe('the arm blend', () => {
  const store = tinyTaskStore({ taskCount: 80, counts: true });

  it('is evaluated like any arm if it is named, and reports its weights', async () => {
    const arms = ['global', 'global-shift', 'finetuned', 'meta-adapted', 'blend'];
    const report = await evaluateFormula({
      store,
      config: formulaConfig({ evaluation: { arms } }),
    });
    expect(report.arms).toEqual(arms);
    const { blend } = report.selection;
    expect(blend?.arms).toEqual(['global', 'global-shift', 'finetuned', 'meta-adapted']);
    expect(blend?.buckets.map(({ name }) => name)).toEqual(['0-3', '4-6', '>6']);
    const lossOf = (name: string): number =>
      report.validation?.arms.find(({ arm }) => arm === name)?.logloss ?? NaN;
    const others = arms.slice(0, -1).map(lossOf);
    expect(lossOf('blend')).toBeLessThanOrEqual(Math.min(...others) + 1e-9);
    expect(asText(evaluationDocument(report))).toContain('cannot serve a blend');
    expect(parseReport(reportJson(report), 'here')).toEqual(report);
  });

  it('is left out where there is nothing to add up', async () => {
    const config = formulaConfig({ evaluation: { arms: ['constant', 'global', 'blend'] } });
    const report = await evaluateFormula({ store, config });
    expect(report.arms).toEqual(['constant', 'global']);
    expect(report.armsLeftOut.map(({ arm }) => arm)).toEqual(['blend']);
  });
});
