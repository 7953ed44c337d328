/** Weights that contextual policies learn: worked numbers, the mode that the Laplace step finds, and what they lead to. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import type { Lesson } from '../../../shared/exploration/lesson.js';
import { contextBy } from '../../../worker/serving/decisions/explorer.js';
import {
  learn,
  lessonOf,
  LinearWeights,
  logOddsOf,
  type Learning,
} from '../../../worker/serving/evidence/learned-weights.js';
import { policyOf } from '../../../worker/serving/exploration/policies.js';
import { settingsOf } from '../../fixtures/decision-input.js';

const linear: Learning = { kind: 'linear', dimension: 2, precision: 1 };
const logistic: Learning = { kind: 'logistic', dimension: 2, precision: 4 };

describe('learned weights', () => {
  it('are a ridge regression of what the model errs by', () => {
    const numbers = new Map<string, number>();
    const first: Lesson = { dimension: 2, places: [0], probability: 0.5 };
    learn(linear, numbers, first, 1);
    expect([...numbers]).toEqual([
      ['a:0:0', 1],
      ['b:0', 0.5],
    ]);
    const weights = new LinearWeights(linear, numbers);
    // theta = 0.5 / (1 + 1); the variance of x = (1, 0) is 1/2, and that of (1, 1) / sqrt 2 is (1/2 + 1) / 2.
    expect(weights.predicted(first).mean).toBeCloseTo(0.75, 12);
    expect(weights.predicted(first).deviation).toBeCloseTo(Math.sqrt(0.5), 12);
    const both = weights.predicted({ dimension: 2, places: [0, 1], probability: 0.1 });
    expect(both.mean).toBeCloseTo(0.1 + 0.25 / Math.SQRT2, 12);
    expect(both.deviation).toBeCloseTo(Math.sqrt(0.75), 12);
    // A second lesson couples the two: A = [[2.5, 0.5], [0.5, 1.5]], b = (0.5 - 0.1 / sqrt 2, -0.1 / sqrt 2).
    learn(linear, numbers, { dimension: 2, places: [0, 1], probability: 0.1 }, 0);
    const coupled = new LinearWeights(linear, numbers).predicted(first);
    const [b0, b1] = [0.5 - 0.1 / Math.SQRT2, -0.1 / Math.SQRT2];
    expect(coupled.mean).toBeCloseTo(0.5 + (1.5 * b0 - 0.5 * b1) / 3.5, 12);
    expect(coupled.deviation).toBeCloseTo(Math.sqrt(1.5 / 3.5), 12);
  });

  it('are the diagonal Laplace posterior of a logistic model', () => {
    const numbers = new Map<string, number>();
    learn(logistic, numbers, { dimension: 2, places: [0], probability: 0.5 }, 1);
    // m = step / 4 with step = 1 - sigmoid(step / 4): 0.4706.
    expect(numbers.get('m:0')).toBeCloseTo(0.4706 / 4, 4);
    expect(numbers.get('q:0')).toBeCloseTo(4 + 0.5294 * 0.4706, 4);
  });

  it('move to the mode of their prior and the outcome', () => {
    fc.assert(
      fc.property(
        fc.record({
          probability: fc.double({ min: 0, max: 1, noNaN: true }),
          reward: fc.double({ min: 0, max: 1, noNaN: true }),
          precision: fc.double({ min: 0.001, max: 1e6, noNaN: true }),
        }),
        ({ probability, reward, precision }) => {
          const numbers = new Map<string, number>();
          const learning = { ...logistic, precision };
          learn(learning, numbers, { dimension: 2, places: [0, 1], probability }, reward);
          // The gradient of q w w / 2 + loss at the mode: q w_i + x_i (sigmoid - reward) = 0.
          const weight = numbers.get('m:0')!;
          const chance = sigmoid(logOddsOf(probability) + (2 * weight) / Math.SQRT2);
          expect(precision * weight + (chance - reward) / Math.SQRT2).toBeCloseTo(0, 8);
        },
      ),
    );
  });

  it('have lessons of few places, in ascending order, the intercept first', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 64 }),
        fc.array(fc.string(), { maxLength: 40 }),
        (dimension, values) => {
          const { places } = lessonOf({ dimension }, { adgroup: 'a', values }, 0.5);
          expect(places[0]).toBe(0);
          expect(places.length).toBeLessThanOrEqual(18);
          for (const [index, place] of places.entries()) {
            expect(place).toBeLessThan(dimension);
            if (index > 0) expect(place).toBeGreaterThan(places[index - 1]!);
          }
        },
      ),
    );
  });

  it.each(['lin-ucb', 'logistic-thompson'] as const)(
    'let %s find what the model misjudges',
    (policy) => {
      const settings = settingsOf({ policy, weight: 0.3 });
      const { dimension, precision } = settings.weights;
      const kind = policy === 'lin-ucb' ? 'linear' : 'logistic';
      const learning: Learning = { kind, dimension, precision };
      const rates = [0.05, 0.1, 0.3];
      const candidates = ['a', 'b', 'c'].map((adgroup) => ({
        ...{
          adgroup,
          value: 1,
          probability: 0.1,
          impressions: 0,
          rewards: 0,
          learnedImpressions: 0,
        },
      }));
      const lessons = candidates.map((each) => lessonOf(learning, { ...each, values: [] }, 0.1));
      expect(new Set(lessons.map(({ places }) => places.join())).size).toBe(3);
      const numbers = new Map<string, number>();
      const stream = randomStream(5, 'learning', policy);
      let best = 0;
      for (let round = 0; round < 1_000; round += 1) {
        const context = contextBy(learning, numbers)(lessons);
        const input = { candidates, strengths: [1, 1, 1], rounds: round + 1, weight: 0.3, context };
        const chosen = policyOf(settings).choose(input, stream);
        learn(learning, numbers, lessons[chosen]!, stream.uniform() < rates[chosen]! ? 1 : 0);
        if (round >= 500 && chosen === 2) best += 1;
      }
      // One that does not learn has a third of the last 500.
      expect(best).toBeGreaterThan(400);
    },
  );
});
