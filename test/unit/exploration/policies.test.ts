/** Each policy by worked numbers, and its exact chances against simulated choices. */

import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import type { chancesOf } from '../../../worker/serving/exploration/policies.js';
import { policyOf } from '../../../worker/serving/exploration/policies.js';
import { candidateOf, settingsOf } from '../../fixtures/decision-input.js';

type PolicyInput = Parameters<typeof chancesOf>[1];

function policyInput(fields: Partial<PolicyInput> = {}): PolicyInput {
  const candidates = fields.candidates ?? [candidateOf('a'), candidateOf('b')];
  return {
    candidates,
    priorImpressions: 100,
    rounds: 1000,
    ...fields,
  };
}

const chosenShares = (name: Parameters<typeof settingsOf>[0], input: PolicyInput): number[] => {
  const policy = policyOf(settingsOf(name));
  const stream = randomStream(11, 'choices');
  const counts = input.candidates.map(() => 0);
  const drawCount = 40_000;
  for (let draw = 0; draw < drawCount; draw += 1) {
    const chosen = policy.choose(input, stream);
    counts[chosen] = (counts[chosen] ?? 0) + 1;
  }
  return counts.map((count) => count / drawCount);
};

describe('Thompson sampling', () => {
  const thompson = policyOf(settingsOf({ policy: 'thompson' }));

  it('has the closed form of two Beta(1, b) posteriors', () => {
    // P(X > Y) for X ~ Beta(1, m), Y ~ Beta(1, n) is n / (m + n): both are minima of uniforms.
    const [m, n] = [50, 200];
    const input = policyInput({
      candidates: [
        candidateOf('a', { probability: 1 / 51 }),
        // One success in n + 1 trials.
        candidateOf('b', { probability: 1 / 51, impressions: n - m }),
      ],
      priorImpressions: m + 1,
    });
    const chances = thompson.exactChances(input);
    expect(chances?.[0]).toBeCloseTo(n / (m + n), 9);
  });

  it('weighs draws by the value of a click', () => {
    // X, Y ~ Beta(1, 1): P(2 X > Y) = 3/4.
    const uniform = { probability: 0.5 };
    const input = policyInput({
      candidates: [candidateOf('a', { ...uniform, value: 2 }), candidateOf('b', uniform)],
      priorImpressions: 2,
    });
    expect(thompson.exactChances(input)?.[0]).toBeCloseTo(0.75, 9);
  });

  it('chooses as often as its chances say, for unlike adgroups', () => {
    const input = policyInput({
      candidates: [
        candidateOf('a', { probability: 0.05, impressions: 4000, rewards: 190, value: 0.8 }),
        candidateOf('b', { probability: 0.03, impressions: 30, rewards: 2 }),
        candidateOf('c', { probability: 0.01, value: 2 }),
      ],
      priorImpressions: 40,
    });
    const exact = [...(thompson.exactChances(input) ?? [])];
    const shares = chosenShares({ policy: 'thompson' }, input);
    expect(exact).toHaveLength(3);
    for (const [index, share] of shares.entries())
      expect(Math.abs(share - (exact[index] ?? NaN))).toBeLessThan(0.012);
  });
});

describe('upper confidence bounds', () => {
  const ucb = policyOf(settingsOf({ policy: 'ucb' }));
  const chosen = (input: PolicyInput): number => ucb.choose(input, randomStream(1, 'ucb'));

  it('takes the smaller of the bounds on clicks and on others', () => {
    // L = ln(e^4) / 2 = 2. For 10 of 100: 0.1 + 0.02 + sqrt(2 0.1 2 / 100 + 0.02^2) = 0.18633.
    // A rival of known rate 1 has its value as bound.
    const rounds = Math.exp(4);
    const first = candidateOf('a', { impressions: 100, rewards: 10 });
    const rival = (value: number) => candidateOf('b', { impressions: 1e12, rewards: 1e12, value });
    const priorImpressions = 0;
    expect(
      chosen(policyInput({ candidates: [first, rival(0.1863)], priorImpressions, rounds })),
    ).toBe(0);
    expect(
      chosen(policyInput({ candidates: [first, rival(0.1864)], priorImpressions, rounds })),
    ).toBe(1);
    // For 90 of 100: 0.9 + sqrt(2 0.1 2 / 100) = 0.963246, below the other bound of 1.1107.
    const high = candidateOf('a', { impressions: 100, rewards: 90 });
    expect(
      chosen(policyInput({ candidates: [high, rival(0.9632)], priorImpressions, rounds })),
    ).toBe(0);
    expect(
      chosen(policyInput({ candidates: [high, rival(0.9633)], priorImpressions, rounds })),
    ).toBe(1);
  });
});
