/** The four baseline rules, against worked numbers and known closed forms. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  baselineLearner,
  type BaselineSettings,
} from '../../../coordinator/streaming/baseline-rules.js';
import type { StreamLearner, StreamRows } from '../../../shared/streaming/stream-rows.js';

/** Rows of one feature each, in one slot. */
function rowsOf(features: readonly number[], clicks: readonly number[]): StreamRows {
  return {
    slotCount: 1,
    featureCount: 4,
    slotOfFeature: new Uint8Array(4),
    rowStarts: Int32Array.from({ length: features.length + 1 }, (_, row) => row),
    features: Int32Array.from(features),
    clicks: Uint8Array.from(clicks),
    times: new Float64Array(features.length),
  };
}

/** The weight of feature 0 after each row, when all rows have feature 0. */
function weightsOver(settings: BaselineSettings, clicks: readonly number[]): number[] {
  const rows = rowsOf(Array<number>(clicks.length).fill(0), clicks);
  const learner = baselineLearner(settings, rows.featureCount);
  return clicks.map((_, row) => {
    learnRows(learner, rows, row, row + 1);
    return weightOf(learner, 0);
  });
}

function learnRows(learner: StreamLearner, rows: StreamRows, from: number, to: number): void {
  const logits = new Float64Array(to - from);
  learner.predict(rows, from, to, logits);
  learner.learn(rows, from, to, logits);
}

function weightOf(learner: StreamLearner, feature: number): number {
  const logits = new Float64Array(1);
  learner.predict(rowsOf([feature], [0]), 0, 1, logits);
  return logits[0]!;
}

const probability = (logit: number): number => 1 / (1 + Math.exp(-logit));

describe('SGD', () => {
  test('worked: two rows, with rate 0.4 divided by the root of the batch number', () => {
    // g = 1/2 - 1 = -0.5: w = 0.4 * 0.5 = 0.2.  Then p = 0.549834, step 0.4 / sqrt(2).
    const [first, second] = weightsOver({ kind: 'sgd', rate: 0.4, ratePower: 0.5, l2: 0 }, [1, 0]);
    expect(first).toBeCloseTo(0.2, 12);
    expect(second).toBeCloseTo(0.2 - (0.4 / Math.SQRT2) * 0.549833997312478, 12);
  });

  test('a penalty pulls by l2 times the weight', () => {
    const [, second] = weightsOver({ kind: 'sgd', rate: 0.4, ratePower: 0, l2: 0.5 }, [1, 0]);
    expect(second).toBeCloseTo(0.2 - 0.4 * (0.549833997312478 + 0.5 * 0.2), 12);
  });

  test('a batch is one step by the sum of its gradients', () => {
    const rows = rowsOf([0, 0, 1], [1, 1, 0]);
    const learner = baselineLearner({ kind: 'sgd', rate: 0.1, ratePower: 0, l2: 0 }, 4);
    learnRows(learner, rows, 0, 3);
    expect(weightOf(learner, 0)).toBeCloseTo(0.1, 12);
    expect(weightOf(learner, 1)).toBeCloseTo(-0.05, 12);
    expect(weightOf(learner, 2)).toBe(0);
  });
});

describe('AdaGrad', () => {
  test('worked: the sum of squares includes the gradient of the step', () => {
    // g = -0.5, G = 0.75 + 0.25 = 1: w = 0.3 * 0.5.  Then g = p(0.15) = 0.537430, G = 1.288831.
    const [first, second] = weightsOver(
      { kind: 'adagrad', rate: 0.3, initialSum: 0.75, l2: 0 },
      [1, 0],
    );
    expect(first).toBeCloseTo(0.15, 12);
    const g = probability(0.15);
    expect(second).toBeCloseTo(0.15 - (0.3 * g) / Math.sqrt(1 + g * g), 12);
  });
});

describe('FTRL-Proximal', () => {
  test('without penalties it is gradient descent with rate alpha / (beta + sqrt(sum g^2))', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 40 }),
        fc.double({ min: 0.01, max: 2, noNaN: true }),
        fc.double({ min: 0.01, max: 2, noNaN: true }),
        (clicks, alpha, beta) => {
          const weights = weightsOver({ kind: 'ftrl', alpha, beta, l1: 0, l2: 0 }, clicks);
          let weight = 0;
          let squares = 0;
          for (const [row, click] of clicks.entries()) {
            const g = probability(weight) - click;
            squares += g * g;
            weight -= (alpha / (beta + Math.sqrt(squares))) * g;
            expect(weights[row]).toBeCloseTo(weight, 9);
          }
        },
      ),
      { seed: 7, numRuns: 60 },
    );
  });

  test('worked: l1 keeps a weight at 0 until its z is larger, l2 shrinks it', () => {
    // Clicked rows: z = -0.5, then -1 (w was 0). n = 0.25, then 0.5.
    const weights = weightsOver({ kind: 'ftrl', alpha: 1, beta: 1, l1: 0.6, l2: 2 }, [1, 1]);
    expect(weights[0]).toBe(0);
    expect(weights[1]).toBeCloseTo((1 - 0.6) / (1 + Math.sqrt(0.5) + 2), 12);
  });
});

describe('Adam', () => {
  const settings: BaselineSettings = {
    kind: 'adam',
    rate: 0.1,
    firstMomentDecay: 0.9,
    secondMomentDecay: 0.99,
    epsilon: 0,
    l2: 0,
  };

  test('its first step is the rate, whatever the gradient', () => {
    expect(weightsOver(settings, [1])[0]).toBeCloseTo(0.1, 12);
  });

  test('worked: the second step, both moments corrected', () => {
    const [first = 0, second] = weightsOver(settings, [1, 0]);
    const g = probability(first);
    const mean = (0.9 * 0.1 * -0.5 + 0.1 * g) / (1 - 0.81);
    const square = (0.99 * 0.01 * 0.25 + 0.01 * g * g) / (1 - 0.9801);
    expect(second).toBeCloseTo(first - (0.1 * mean) / Math.sqrt(square), 12);
  });

  test('an untouched feature neither moves nor ages', () => {
    const rows = rowsOf([0, 1, 1, 1, 0], [1, 0, 1, 0, 0]);
    const learner = baselineLearner(settings, 4);
    for (let row = 0; row < 5; row += 1) learnRows(learner, rows, row, row + 1);
    expect(weightOf(learner, 0)).toBeCloseTo(weightsOver(settings, [1, 0])[1]!, 12);
  });
});
