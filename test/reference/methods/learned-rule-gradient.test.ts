/**
 * The meta-gradient of the learned rule against central differences and the closed form of one
 * step.
 */

import { describe, expect, test } from 'vitest';
import { progressiveLogits } from '../../../coordinator/streaming/progressive-validation.js';
import {
  emptyRuleState,
  learnedRuleLearner,
  stepSizeOf,
} from '../../../shared/streaming/learned-update.js';
import {
  layoutOf,
  mixingMatrix,
  parametersLikeAdagrad,
} from '../../../shared/streaming/learned-update-parameters.js';
import type { PairSettings } from '../../../shared/streaming/rule-settings.js';
import type { WindowPair } from '../../../shared/streaming/rule-tape.js';
import type { StreamRows } from '../../../shared/streaming/stream-rows.js';
import { windowPairGradient } from '../../../shared/streaming/window-pair-gradient.js';
import { smallPair, smallRule, smallStream } from '../../fixtures/small-stream.js';

const CASES: readonly { name: string; rank: number; settings: PairSettings }[] = [
  { name: 'row by row, frozen', rank: 3, settings: { batchRows: 1, query: 'frozen' } },
  { name: 'row by row, progressive', rank: 3, settings: { batchRows: 1, query: 'progressive' } },
  { name: 'batches, progressive', rank: 2, settings: { batchRows: 7, query: 'progressive' } },
  { name: 'one step of a whole window', rank: 2, settings: { batchRows: 30, query: 'frozen' } },
  { name: 'no low-rank part', rank: 0, settings: { batchRows: 4, query: 'progressive' } },
];

describe('the meta-gradient of phi', () => {
  test.each(CASES)('agrees with central differences: $name', ({ rank, settings }) => {
    const rows = smallStream({ seed: 11, rowCount: 60 });
    const rule = smallRule(5, rows, rank);
    const pair = smallPair(3, rows, rule);
    const { gradient } = windowPairGradient(rule.shape, rule.parameters, pair, settings);
    const offences: string[] = [];
    for (let at = 0; at < gradient.length; at += 1) {
      const lossAt = (shift: number): number => {
        const moved = rule.parameters.slice();
        moved[at]! += shift;
        return windowPairGradient(rule.shape, moved, pair, settings).lossSum;
      };
      const h = 1e-5;
      const difference = (lossAt(h) - lossAt(-h)) / (2 * h);
      const error = Math.abs(difference - gradient[at]!);
      if (error > 1e-7 * (1 + Math.abs(difference)))
        offences.push(`phi[${at}]: ${gradient[at]} by the way back, ${difference} by differences`);
    }
    expect(offences).toEqual([]);
    expect(gradient.filter((value) => value !== 0).length).toBeGreaterThan(gradient.length / 3);
  });
});

describe('one step of a whole window', () => {
  /** min_phi L_new(theta - s(phi) g): d L_new / d log s = -sum_j (d L_new / d theta'_j) s g_j. */
  test('the gradient of a first log-step equals the closed form of the paper', () => {
    // Rows with one feature in one slot, all unseen before: features 0 and 1, two old rows, two new
    // ones.
    const rows: StreamRows = {
      slotCount: 1,
      featureCount: 2,
      slotOfFeature: new Uint8Array(2),
      rowStarts: Int32Array.of(0, 1, 2, 3, 4),
      features: Int32Array.of(0, 1, 0, 1),
      clicks: Uint8Array.of(1, 0, 0, 0),
      times: new Float64Array(4),
    };
    const shape = { slotCount: 1, rank: 0, timeScaleDays: 1 };
    const parameters = parametersLikeAdagrad(shape, { rate: 0.8, initialSum: 0.5 });
    const pair: WindowPair = {
      rows,
      oldRowCount: 2,
      embedding: new Float32Array(0),
      state: emptyRuleState(2, 0),
    };
    const step = Math.exp(parameters[0]!);
    // g = -0.5 and 0.5, so theta' = step / 2 and -step / 2.
    const residual = (theta: number): number => 1 / (1 + Math.exp(-theta));
    const expected = -(residual(step / 2) * step * -0.5 + residual(-step / 2) * step * 0.5);
    const result = windowPairGradient(shape, parameters, pair, { batchRows: 2, query: 'frozen' });
    expect(result.gradient[layoutOf(shape).evidenceKnots]).toBeCloseTo(expected, 12);
    const loss = Math.log1p(Math.exp(step / 2)) + Math.log1p(Math.exp(-step / 2));
    expect(result.lossSum).toBeCloseTo(loss, 12);
  });
});

describe('the rule', () => {
  test('its shared vector is the low-rank update of every weight, written explicitly', () => {
    const rows = smallStream({ seed: 21, rowCount: 40 });
    const rank = 2;
    const rule = smallRule(9, rows, rank);
    const layout = layoutOf(rule.shape);
    const { featureCount } = rows;
    for (const decay of ['weightDecay', 'evidenceDecay'] as const)
      rule.parameters.fill(-50, layout[decay], layout[decay] + rows.slotCount);
    rule.parameters[layout.sharedDecay] = -50;
    const logits = progressiveLogits(
      learnedRuleLearner(rule, emptyRuleState(featureCount, rank)),
      rows,
      4,
    );
    const mixing = mixingMatrix(rule.parameters, layout);
    const stepSize = stepSizeOf(rule.parameters, layout);
    const weights = Float64Array.from(
      rows.slotOfFeature,
      (slot) => rule.parameters[layout.initialWeight + slot]!,
    );
    const evidence = new Float64Array(featureCount);
    const touched = new Float64Array(featureCount).fill(-1);
    const embedded = (feature: number, axis: number): number =>
      rule.embedding[feature * rank + axis]! *
      rule.parameters[layout.embeddingGain + rows.slotOfFeature[feature]!]!;
    for (let from = 0; from < 40; from += 4) {
      const time = rows.times[from]! / rule.shape.timeScaleDays;
      const gradients = new Float64Array(featureCount);
      const gathered = new Float64Array(featureCount);
      for (let row = from; row < from + 4; row += 1) {
        const features = rows.features.subarray(rows.rowStarts[row], rows.rowStarts[row + 1]);
        const logit = features.reduce((sum, feature) => sum + weights[feature]!, 0);
        expect(logits[row]).toBeCloseTo(logit, 10);
        const probability = 1 / (1 + Math.exp(-logit));
        for (const feature of features) {
          gradients[feature]! += probability - rows.clicks[row]!;
          gathered[feature]! += 4 * probability * (1 - probability);
        }
      }
      const projected = Array.from({ length: rank }, (_, axis) =>
        gradients.reduce((sum, g, feature) => sum + embedded(feature, axis) * g, 0),
      );
      for (let feature = 0; feature < featureCount; feature += 1) {
        for (let i = 0; i < rank; i += 1)
          for (let j = 0; j < rank; j += 1)
            weights[feature]! -= embedded(feature, i) * mixing[i * rank + j]! * projected[j]!;
        if (gathered[feature] === 0) continue;
        const age = touched[feature] === -1 ? null : time - touched[feature]!;
        const slot = rows.slotOfFeature[feature]!;
        const step = stepSize(slot, evidence[feature]!, age);
        weights[feature]! -= step * gradients[feature]!;
        evidence[feature]! += gathered[feature]!;
        touched[feature] = time;
      }
    }
  });
});
