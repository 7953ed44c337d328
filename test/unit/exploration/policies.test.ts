/** Each policy by worked numbers, and the chances of Thompson sampling against draws from Beta posteriors. */

import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { drawIndex, POLICIES } from '../../../worker/serving/exploration/policies.js';
import { candidateOf } from '../../fixtures/decision-input.js';

type PolicyInput = Parameters<typeof POLICIES.thompson>[0];

function policyInput(fields: Partial<PolicyInput> = {}): PolicyInput {
  const candidates = fields.candidates ?? [candidateOf('a'), candidateOf('b')];
  return {
    candidates,
    priorImpressions: 100,
    rounds: 1000,
    ...fields,
  };
}

interface Beta {
  readonly a: number;
  readonly b: number;
  readonly value: number;
}

/** How often each has the largest draw. Parameters are whole numbers: Gamma draws are sums of exponential ones. */
function drawnShares(posteriors: readonly Beta[], drawCount: number): number[] {
  const stream = randomStream(11, 'choices');
  const gammaDraw = (shape: number): number =>
    Array.from({ length: shape }).reduce<number>((sum) => sum - Math.log1p(-stream.uniform()), 0);
  const shares = posteriors.map(() => 0);
  for (let draw = 0; draw < drawCount; draw += 1) {
    const draws = posteriors.map(({ a, b, value }) => value / (1 + gammaDraw(b) / gammaDraw(a)));
    const chosen = draws.indexOf(Math.max(...draws));
    shares[chosen] = Number(shares[chosen]) + 1 / drawCount;
  }
  return shares;
}

describe('Thompson sampling', () => {
  const { thompson } = POLICIES;

  it('has nearly the closed form of two Beta(1, b) posteriors', () => {
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
    expect(Math.abs(Number(thompson(input)[0]) - n / (m + n))).toBeLessThan(0.01);
  });

  it('weighs draws by the value of a click', () => {
    // X, Y ~ Beta(1, 1): P(2 X > Y) = 3/4.
    const uniform = { probability: 0.5 };
    const input = policyInput({
      candidates: [candidateOf('a', { ...uniform, value: 2 }), candidateOf('b', uniform)],
      priorImpressions: 2,
    });
    expect(Math.abs(Number(thompson(input)[0]) - 0.75)).toBeLessThan(0.01);
  });

  const beta = (a: number, b: number, value = 1): Beta => ({ a, b, value });
  it.each([
    ['unlike ones', [beta(190, 3850, 0.8), beta(3, 67), beta(1, 39, 2)]],
    ['one that is known well among new ones', [beta(200, 9_800), beta(1, 99), beta(2, 98)]],
    ['many', Array.from({ length: 60 }, (_, index) => beta(1 + (index % 7), 60 + 3 * index))],
  ])('has the chances of the largest Beta draw, for %s', (_name, posteriors) => {
    const candidates = posteriors.map(({ a, b, value }, index) =>
      candidateOf(String(index), { probability: a / (a + b), modelImpressions: a + b, value }),
    );
    const chances = [...thompson(policyInput({ candidates }))];
    const shares = drawnShares(posteriors, 4_000);
    expect(chances.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
    for (const [index, share] of shares.entries())
      expect(Math.abs(share - Number(chances[index]))).toBeLessThan(0.035);
  });

  it('chooses one of 500 with the chance that it states: inverse chances have the mean 1', () => {
    // Chances that were counted in 1,000 simulated choices had the mean 0.82.
    const stream = randomStream(5, 'arms');
    const candidates = Array.from({ length: 500 }, (_, index) =>
      candidateOf(String(index), {
        probability: 0.002 + 0.05 * stream.uniform(),
        impressions: stream.below(500),
        rewards: stream.below(12),
        value: 0.5 + stream.uniform(),
      }),
    );
    const chances = thompson(policyInput({ candidates }));
    // The target chooses one of the candidates that have a chance of more than a thousandth.
    const likely = [...chances].map((chance) => chance > 1e-3);
    const target = 1 / likely.filter(Boolean).length;
    const drawCount = 200_000;
    let sum = 0;
    for (let draw = 0; draw < drawCount; draw += 1) {
      const index = drawIndex(chances, stream);
      if (likely[index] === true) sum += target / Number(chances[index]);
    }
    expect(target).toBeLessThan(0.1);
    expect(Math.abs(sum / drawCount - 1)).toBeLessThan(0.02);
  });
});

describe('upper confidence bounds', () => {
  const chosen = (input: PolicyInput): number => POLICIES.ucb(input).indexOf(1);

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
