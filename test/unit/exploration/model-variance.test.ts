/** Policies that read the variance of posterior blocks: what a probability is worth, and whom they explore. */

import { describe, expect, it } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { randomStream } from '../../../shared/base/random.js';
import type { RankedCandidate } from '../../../shared/config/decision-record.js';
import { moderatedLogit } from '../../fixtures/moderated-logit.js';
import { decide } from '../../../worker/serving/exploration/chooser.js';
import { modelImpressionsOf, POLICIES } from '../../../worker/serving/exploration/policies.js';
import { candidateOf, inputOf, settingsOf } from '../../fixtures/decision-input.js';

describe('impressions that a probability is worth', () => {
  it('are 1 / (q (1 - q) v) where the variance v of the logit is small', () => {
    for (const [probability, variance] of [
      [0.5, 1e-3],
      [0.02, 1e-3],
      [0.9, 1e-4],
    ] as const) {
      const expected = 1 / (probability * (1 - probability) * variance);
      expect(modelImpressionsOf(probability, variance) / expected).toBeCloseTo(1, 2);
    }
  });

  it('are those of the variance of drawn probabilities where it is large', () => {
    for (const [mean, variance] of [
      [0, 4],
      [-3, 1],
      [1, 0.5],
    ] as const) {
      const stream = randomStream(5, 'logits', mean);
      const drawn = Array.from({ length: 200_000 }, () =>
        sigmoid(mean + Math.sqrt(variance) * stream.normal()),
      );
      const rate = drawn.reduce((sum, each) => sum + each, 0) / drawn.length;
      const spread = drawn.reduce((sum, each) => sum + (each - rate) ** 2, 0) / drawn.length;
      const moderated = sigmoid(moderatedLogit(mean, variance));
      const worth = (rate * (1 - rate)) / spread - 1;
      expect(modelImpressionsOf(moderated, variance) / worth).toBeCloseTo(1, 1);
    }
  });

  it('have a bound, for no variance and for probabilities of 0 and 1', () => {
    for (const [probability, variance] of [
      [0.3, 0],
      [1, 1],
      [1e-300, 1],
    ] as const)
      expect(modelImpressionsOf(probability, variance)).toBe(1e6);
  });
});

describe('policies with the variance', () => {
  const input = (candidates: readonly RankedCandidate[]) => ({
    ...{ candidates, priorImpressions: 100, rounds: Math.exp(4) },
  });

  it('are those of counts that say as much, whatever was shown since', () => {
    const counted = [
      candidateOf('a', { probability: 0.1, impressions: 200, rewards: 20 }),
      candidateOf('b', { probability: 0.08 }),
    ];
    const modelled = [
      candidateOf('a', { probability: 0.1, modelImpressions: 300, impressions: 70, rewards: 70 }),
      candidateOf('b', { probability: 0.08, modelImpressions: 100 }),
    ];
    for (const policy of ['thompson', 'ucb'] as const) {
      const [expected, found] = [counted, modelled].map((of) => [...POLICIES[policy](input(of))]);
      for (const [index, chance] of found!.entries())
        expect(chance).toBeCloseTo(at(expected!, index), 12);
    }
  });
});

/** A level with a normal prior, and its Laplace posterior from the outcomes so far. */
class Level {
  static readonly prior = { mean: -2, variance: 0.5 };
  clicks = 0;
  impressions = 0;
  readonly #rate: number;

  constructor(rate: number) {
    this.#rate = rate;
  }

  show(stream: ReturnType<typeof randomStream>): void {
    this.impressions += 1;
    if (stream.uniform() < this.#rate) this.clicks += 1;
  }

  candidate(adgroup: string): RankedCandidate {
    const { mean, variance } = Level.prior;
    let logit = mean;
    const precision = (): number =>
      1 / variance + this.impressions * sigmoid(logit) * (1 - sigmoid(logit));
    for (let step = 0; step < 20; step += 1)
      logit -=
        (this.impressions * sigmoid(logit) - this.clicks + (logit - mean) / variance) / precision();
    const probability = sigmoid(moderatedLogit(logit, 1 / precision()));
    const modelImpressions = modelImpressionsOf(probability, 1 / precision());
    return candidateOf(adgroup, { probability, modelImpressions });
  }
}

describe('a bandit of adgroups whose blocks adapt to what was shown', () => {
  it('explores new adgroups more than known ones of its best rates, until it has found the best', () => {
    const stream = randomStream(9, 'bandit');
    // Four known adgroups at the prior's rate, and four new ones, of which one is better.
    const rates = [0.12, 0.12, 0.12, 0.12, 0.03, 0.06, 0.12, 0.3];
    const levels = rates.map((rate) => new Level(rate));
    for (const known of levels.slice(0, 4)) for (let n = 0; n < 3_000; n += 1) known.show(stream);
    const settings = settingsOf({ policy: 'thompson', share: { kind: 'fixed', share: 1 } });
    const shown: number[] = [];
    for (let round = 0; round < 1_200; round += 1) {
      const candidates = levels.map((level, index) => level.candidate(String(index)));
      const { decided } = decide(inputOf(settings, { id: `round-${round}`, slots: 1, candidates }));
      const chosen = Number(at(decided, 0).adgroup);
      shown.push(chosen);
      at(levels, chosen).show(stream);
    }
    const shareOf = (of: readonly number[], isIn: (index: number) => boolean): number =>
      of.filter(isIn).length / of.length;
    const first = shown.slice(0, 100);
    expect(shareOf(first, (index) => index >= 4)).toBeGreaterThan(0.6);
    for (const newcomer of [4, 5, 6, 7]) expect(first).toContain(newcomer);
    expect(shareOf(shown.slice(-400), (index) => index === 7)).toBeGreaterThan(0.9);
  });
});
