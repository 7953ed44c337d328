/** Each policy by worked numbers, and its exact chances against simulated choices. */

import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { policyOf } from '../../../worker/serving/exploration/policies.js';
import { chancesOf, type PolicyInput } from '../../../worker/serving/exploration/policy.js';
import { thompsonChances } from '../../../worker/serving/exploration/thompson-chances.js';
import { candidateOf, settingsOf } from '../../fixtures/decision-input.js';

function policyInput(fields: Partial<PolicyInput> = {}): PolicyInput {
  const candidates = fields.candidates ?? [candidateOf('a'), candidateOf('b')];
  return {
    candidates,
    strengths: candidates.map(() => 100),
    rounds: 1000,
    weight: 1,
    context: null,
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
  it('chooses equal adgroups equally', () => {
    expect([...(thompsonChances(policyInput(), 8) ?? [])]).toEqual([
      expect.closeTo(0.5, 9),
      expect.closeTo(0.5, 9),
    ]);
  });

  it('has the closed form of two Beta(1, b) posteriors', () => {
    // P(X > Y) for X ~ Beta(1, m), Y ~ Beta(1, n) is n / (m + n): both are minima of uniforms.
    const [m, n] = [50, 200];
    const input = policyInput({
      candidates: [
        candidateOf('a', { probability: 1 / 51 }),
        candidateOf('b', { probability: 1 / 201 }),
      ],
      strengths: [m + 1, n + 1],
    });
    const chances = thompsonChances(input, 8);
    expect(chances?.[0]).toBeCloseTo(n / (m + n), 9);
  });

  it('weighs draws by the value of a click', () => {
    // X, Y ~ Beta(1, 1): P(2 X > Y) = 3/4.
    const uniform = { probability: 0.5 };
    const input = policyInput({
      candidates: [candidateOf('a', { ...uniform, value: 2 }), candidateOf('b', uniform)],
      strengths: [2, 2],
    });
    expect(thompsonChances(input, 8)?.[0]).toBeCloseTo(0.75, 9);
  });

  it('chooses as often as its chances say, for unlike adgroups', () => {
    const input = policyInput({
      candidates: [
        candidateOf('a', { probability: 0.05, impressions: 4000, rewards: 190, value: 0.8 }),
        candidateOf('b', { probability: 0.03, impressions: 30, rewards: 2 }),
        candidateOf('c', { probability: 0.01, value: 2 }),
      ],
      strengths: [100, 40, 20],
    });
    const exact = [...(thompsonChances(input, 8) ?? [])];
    const shares = chosenShares({ policy: 'thompson' }, input);
    expect(exact).toHaveLength(3);
    for (const [index, share] of shares.entries())
      expect(Math.abs(share - (exact[index] ?? NaN))).toBeLessThan(0.012);
  });

  it('exploits with weight 0, and explores more with a greater weight', () => {
    const candidates = [
      candidateOf('a', { impressions: 900, rewards: 40 }),
      candidateOf('b', { impressions: 50, rewards: 1 }),
    ];
    const chanceOfWorse = (weight: number): number =>
      thompsonChances(policyInput({ candidates, weight }), 8)?.[1] ?? NaN;
    expect(chanceOfWorse(0)).toBe(0);
    expect(chanceOfWorse(1)).toBeGreaterThan(chanceOfWorse(0.2));
    expect(chanceOfWorse(3)).toBeGreaterThan(chanceOfWorse(1));
  });

  it('estimates chances of many adgroups, and says how well', () => {
    const candidates = Array.from({ length: 9 }, (_, index) => candidateOf(`a${index}`));
    const policy = policyOf(settingsOf({ policy: 'thompson' }));
    const stream = randomStream(1, 'chances');
    const chances = chancesOf(policy, policyInput({ candidates }), 4, { draws: 1000, stream });
    expect(chances.values.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
    expect(chances.values[4]).toBeGreaterThan(0);
    expect(chances.standardErrorMax).toBeGreaterThan(0.005);
    expect(chances.standardErrorMax).toBeLessThan(0.02);
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
    const strengths = [0, 0];
    expect(chosen(policyInput({ candidates: [first, rival(0.1863)], strengths, rounds }))).toBe(0);
    expect(chosen(policyInput({ candidates: [first, rival(0.1864)], strengths, rounds }))).toBe(1);
    // For 90 of 100: 0.9 + sqrt(2 0.1 2 / 100) = 0.963246, below the other bound of 1.1107.
    const high = candidateOf('a', { impressions: 100, rewards: 90 });
    expect(chosen(policyInput({ candidates: [high, rival(0.9632)], strengths, rounds }))).toBe(0);
    expect(chosen(policyInput({ candidates: [high, rival(0.9633)], strengths, rounds }))).toBe(1);
  });

  it('tries adgroups without any evidence first, in an order of the seed', () => {
    const candidates = ['a', 'b', 'c'].map((name) => candidateOf(name));
    const input = policyInput({ candidates, strengths: [0, 0, 0] });
    for (const share of chosenShares({ policy: 'ucb' }, input))
      expect(Math.abs(share - 1 / 3)).toBeLessThan(0.01);
    expect([...(ucb.exactChances(input) ?? [])]).toEqual([1 / 3, 1 / 3, 1 / 3]);
  });
});

describe('the other policies', () => {
  it('epsilon-greedy draws equally', () => {
    const policy = policyOf(settingsOf({ policy: 'epsilon-greedy' }));
    expect([...(policy.exactChances(policyInput()) ?? [])]).toEqual([0.5, 0.5]);
  });

  it('promotion draws in proportion to 1 - tanh(impressions / b)', () => {
    const candidates = [candidateOf('a'), candidateOf('b', { impressions: 300 })];
    const input = policyInput({ candidates });
    const doubt = 1 - Math.tanh(1);
    const exact = [1 / (1 + doubt), doubt / (1 + doubt)];
    const policy = policyOf(settingsOf({ policy: 'promotion' }));
    expect([...(policy.exactChances(input) ?? [])]).toEqual(exact);
    const shares = chosenShares({ policy: 'promotion' }, input);
    for (const [index, share] of shares.entries())
      expect(Math.abs(share - (exact[index] ?? NaN))).toBeLessThan(0.01);
  });

  it('LinUCB adds the weight times the deviation', () => {
    const context = { kind: 'linear', means: [0.5, 0.4], deviations: [0.01, 0.2] } as const;
    const policy = policyOf(settingsOf({ policy: 'lin-ucb' }));
    const chosen = (weight: number): number =>
      policy.choose(policyInput({ context, weight }), randomStream(1, 'linucb'));
    expect([chosen(0), chosen(0.5), chosen(1)]).toEqual([0, 0, 1]);
  });

  it('logistic Thompson has the normal chances of two adgroups', () => {
    const context = {
      kind: 'logistic',
      features: [
        [1, 0],
        [0, 1],
      ],
      weights: [0.2, 0],
      precisions: [4, 1],
    } as const;
    const input = policyInput({ context });
    const policy = policyOf(settingsOf({ policy: 'logistic-thompson' }));
    // The difference is normal with mean 0.2 and variance 1/4 + 1: Phi(0.17889) = 0.57099.
    const exact = [...(policy.exactChances(input) ?? [])];
    expect(exact[0]).toBeCloseTo(0.570988, 5);
    const shares = chosenShares({ policy: 'logistic-thompson' }, input);
    expect(Math.abs((shares[0] ?? NaN) - (exact[0] ?? NaN))).toBeLessThan(0.012);
  });
});
