// Explanations of random models of every kind: shares and base sum to the score that the scorer gives, and are Shapley
// values, computed from all subsets of the parts, where they are said to be. Seen to fail: the reverse order left out,
// bags filled with row 0, and towers and target encodings counted as exact.

import { describe, expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { explanationsOf, hasExactShares } from '../../../worker/serving/explanation.js';
import { KernelScorer } from '../../../worker/serving/kernel-scorer.js';
import { isCovered } from '../../../worker/serving/scoring-plan.js';
import { requestLayoutOf, type RankingRequest } from '../../../worker/serving/ranking-request.js';
import {
  randomRankingCase,
  randomRequest,
  type RankingCase,
} from '../../fixtures/serving/random-ranking-model.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const CASES_PER_KIND = 12;

function* casesOf(kind: string): Generator<RankingCase> {
  let found = 0;
  for (let seed = 0; found < CASES_PER_KIND; seed += 1) {
    const drawn = randomRankingCase(randomStream(seed, kind, 'explained'), kind, 'float32');
    if (drawn === null || !isCovered(drawn.model)) continue;
    found += 1;
    yield drawn;
  }
}

const addon = await compiledAddon();

const scorerOf = (model: RankingModel, names: readonly string[]) =>
  new KernelScorer(addon, model, names);

/** The scores of a candidate of which a subset of the parts is known, by the bits of the subset. */
function scoresOfSubsets({ model }: RankingCase, whole: RankingRequest): Float32Array {
  const layout = requestLayoutOf(model.spec, []);
  const bags = new Set(model.spec.bagFeatures.map(({ name }) => name));
  const places = [...layout.ids, ...layout.numbers];
  const logits = new Float32Array(2 ** (places.length + 1));
  const one = new Float32Array(1);
  const scorer = scorerOf(model, []);
  for (let subset = 0; subset < logits.length; subset += 1) {
    const candidateIds = Int32Array.from(whole.candidateIds);
    const candidateNumbers = Float32Array.from(whole.candidateNumbers);
    for (const [part, { name, firstPlace, placeCount }] of places.entries()) {
      if ((subset >> (part + 1)) & 1) continue;
      if (part >= layout.ids.length) candidateNumbers[firstPlace] = 0;
      else candidateIds.fill(bags.has(name) ? -1 : 0, firstPlace, firstPlace + placeCount);
    }
    const blocks = Int32Array.of((subset & 1) === 1 ? at(whole.blocks, 0) : 0);
    scorer.score({ ...whole, candidateCount: 1, blocks, candidateIds, candidateNumbers }, one);
    logits[subset] = at(one, 0);
  }
  return logits;
}

/** The mean over all orders of what a part adds to those before it. */
function shapleyValue(scores: Float32Array, part: number): number {
  const partCount = Math.log2(scores.length);
  const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));
  let value = 0;
  for (let subset = 0; subset < scores.length; subset += 1) {
    if ((subset >> part) & 1) continue;
    const size = subset.toString(2).replaceAll('0', '').length;
    const weight = (factorial(size) * factorial(partCount - size - 1)) / factorial(partCount);
    value += weight * (at(scores, subset | (1 << part)) - at(scores, subset));
  }
  return value;
}

describe.each(MODELS.all().map(({ kind }) => kind))('%s', (kind) => {
  test('shares and base sum to the score, and are Shapley values where that is said', () => {
    for (const [index, drawn] of [...casesOf(kind)].entries()) {
      const { model, contextFeatures } = drawn;
      const request = randomRequest(randomStream(index, 'explained', kind), drawn, 3);
      const scores = new Float32Array(3);
      scorerOf(model, contextFeatures).score(request, scores);
      const candidates = [2, 0].map((place) => ({ place, block: at(request.blocks, place) }));
      const asked = { request, contextFeatures };
      const found = explanationsOf(model, asked, candidates, scorerOf);
      for (const [nth, { score, base, blockShare, shares }] of found.entries()) {
        const expected = at(scores, nth === 0 ? 2 : 0);
        const sum = Object.values(shares).reduce((total, share) => total + share, base);
        const tolerance = 2e-5 * Math.max(1, Math.abs(expected), Math.abs(base));
        expect(Math.abs(score - expected)).toBeLessThan(tolerance);
        expect(Math.abs(sum + blockShare - expected)).toBeLessThan(tolerance);
      }
      if (!hasExactShares(model)) continue;
      const alone = { ...drawn, contextFeatures: [] };
      const one = randomRequest(randomStream(index, 'one', kind), alone, 1);
      const subsets = scoresOfSubsets(alone, one);
      const block = at(one.blocks, 0);
      const [of] = explanationsOf(
        model,
        { request: one, contextFeatures: [] },
        [{ place: 0, block }],
        scorerOf,
      );
      const parts = [of!.blockShare, ...Object.values(of!.shares)];
      const size = Math.max(1, ...subsets.map(Math.abs));
      for (const [part, share] of parts.entries())
        expect(Math.abs(share - shapleyValue(subsets, part))).toBeLessThan(2e-5 * size);
    }
  });
});

test('some kinds are exact, and those with a tower are not', () => {
  const exact = (kind: string): number =>
    [...casesOf(kind)].filter(({ model }) => hasExactShares(model)).length;
  // All but those whose logits are moderated.
  expect(exact('logistic')).toBeGreaterThan(CASES_PER_KIND / 2);
  expect(exact('fm')).toBeGreaterThan(1);
  expect(exact('deepfm')).toBe(0);
});
