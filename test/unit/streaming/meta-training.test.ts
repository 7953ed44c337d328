/**
 * Learning the update rule: phi does not depend on which process computes the pairs, and improves
 * on its initial value.
 */

import { describe, expect, test } from 'vitest';
import {
  computeInProcess,
  metaTrainRule,
  type GradientComputer,
  type MetaTrainingSettings,
} from '../../../coordinator/streaming/meta-training.js';
import { cutPair, pairSpans } from '../../../coordinator/streaming/window-pairs.js';
import { progressiveLogits } from '../../../coordinator/streaming/progressive-validation.js';
import { randomStream } from '../../../shared/base/random.js';
import {
  emptyRuleState,
  learnedRuleLearner,
  type LearnedRule,
} from '../../../shared/streaming/learned-update.js';
import { parametersLikeAdagrad } from '../../../shared/streaming/learned-update-parameters.js';
import { windowPairGradient } from '../../../shared/streaming/window-pair-gradient.js';
import { smallRule, smallStream } from '../../fixtures/small-stream.js';

const ROW_COUNT = 400;
const settings: MetaTrainingSettings = {
  seed: 3,
  priorRowCount: ROW_COUNT,
  judgedFromRow: 100,
  windowRows: 50,
  epochCount: 3,
  pairsPerStep: 3,
  rate: 0.1,
  batchRows: 1,
  query: 'progressive',
};

/** Labels that depend on slot 0 strongly and on the other slots not at all. */
function learnableStream(): ReturnType<typeof smallStream> {
  const rows = smallStream({ seed: 17, rowCount: ROW_COUNT, featuresPerSlot: 20 });
  const draws = randomStream(5, 'labels');
  const clicks = rows.clicks.map((_, row) => {
    const feature = rows.features[rows.rowStarts[row]!]!;
    return draws.uniform() < (feature % 2 === 0 ? 0.9 : 0.1) ? 1 : 0;
  });
  return { ...rows, clicks };
}

function startOf(rows: ReturnType<typeof smallStream>): LearnedRule {
  const { embedding, shape } = smallRule(1, rows, 2);
  const parameters = parametersLikeAdagrad(shape, { rate: 0.1, initialSum: 1 });
  return { shape, parameters, embedding };
}

describe('meta-training of the rule', () => {
  test('phi does not depend on which worker computes which pair, or when', async () => {
    const rows = learnableStream();
    const start = startOf(rows);
    const here = await metaTrainRule(start, rows, settings);
    // A worker for every pair; the last pairs finish first.
    const elsewhere: GradientComputer = async (shape, parameters, pairs, pairSettings) => {
      const done = new Map<number, ReturnType<typeof windowPairGradient>>();
      for (let index = pairs.length - 1; index >= 0; index -= 1) {
        const [result] = await computeInProcess(
          shape,
          parameters.slice(),
          [structuredClone(pairs[index]!)],
          pairSettings,
        );
        done.set(index, result!);
      }
      return pairs.map((_, index) => done.get(index)!);
    };
    const there = await metaTrainRule(start, rows, settings, { compute: elsewhere });
    expect(there).toEqual(here);
  });

  test('it improves the progressive logloss of the initial rule', async () => {
    const rows = learnableStream();
    const { epochLoglosses, parameters } = await metaTrainRule(startOf(rows), rows, settings);
    const [before = 0, ...after] = epochLoglosses;
    expect(after).toHaveLength(settings.epochCount);
    expect(Math.min(...after)).toBeLessThan(before - 0.01);
    expect(parameters).not.toEqual(startOf(rows).parameters);
  });

  test('a step of Adam divides the summed gradients by the number of judged rows', async () => {
    const rows = learnableStream();
    const start = startOf(rows);
    // Two steps of two pairs each, with made-up gradients for every parameter.
    const made = [
      [3, 1],
      [-1, -2],
    ];
    let stepIndex = 0;
    const compute: GradientComputer = (_shape, parameters, pairs) => {
      const gradients = made[stepIndex] ?? [];
      stepIndex += 1;
      return Promise.resolve(
        pairs.map((_, pair) => ({
          lossSum: 0,
          judgedRowCount: 10,
          gradient: parameters.map(() => gradients[pair] ?? 0),
        })),
      );
    };
    const seen: number[] = [];
    const spying: GradientComputer = (shape, parameters, ...rest) => {
      seen.push(parameters[0]!);
      return compute(shape, parameters, ...rest);
    };
    const two = { ...settings, priorRowCount: 250, epochCount: 2, pairsPerStep: 2 };
    await metaTrainRule(start, rows, two, { compute: spying });
    // Steps g = 4 / 20 and -3 / 20, rates 0.1 and 0.1 (1 - 0.9 / 4).
    const [first, second] = [0.2, -0.15];
    const mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.81);
    const square = (0.999 * 0.001 * first ** 2 + 0.001 * second ** 2) / (1 - 0.998001);
    const afterFirst = start.parameters[0]! - 0.1;
    expect(seen[1]).toBeCloseTo(afterFirst, 9);
    expect(seen[2]).toBeCloseTo(afterFirst - (0.0775 * mean) / Math.sqrt(square), 9);
  });
});

describe('pairs of windows', () => {
  test('spans are consecutive and overlap by one window; the rest is left out', () => {
    expect(pairSpans(10, 3)).toEqual([
      { from: 0, boundary: 3, to: 6 },
      { from: 3, boundary: 6, to: 9 },
    ]);
    expect(pairSpans(5, 3)).toEqual([]);
  });

  test('a pair that is cut out gives the same result as the whole stream', () => {
    const rows = smallStream({ seed: 2, rowCount: 60, featuresPerSlot: 9 });
    const rule = smallRule(4, rows, 2);
    const state = emptyRuleState(rows.featureCount, 2);
    const learner = learnedRuleLearner(rule, state);
    progressiveLogits(learner, rows, 1, { from: 0, to: 20 });
    const pair = cutPair(rows, { from: 20, boundary: 40, to: 60 }, rule.embedding, state);
    const { lossSum } = windowPairGradient(rule.shape, rule.parameters, pair, {
      batchRows: 1,
      query: 'progressive',
    });
    const logits = progressiveLogits(learner, rows, 1, { from: 20, to: 60 }).subarray(20);
    const whole = logits.reduce(
      (sum, logit, index) => sum + Math.log1p(Math.exp(logit)) - rows.clicks[40 + index]! * logit,
      0,
    );
    expect(lossSum).toBeCloseTo(whole, 10);
    expect(pair.rows.featureCount).toBeLessThanOrEqual(rows.featureCount);
  });
});
