// Requests that name what is not there are refused before anything is read.

import { beforeAll, expect, test, vi } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { randomStream } from '../../../shared/base/random.js';
import { defineModel } from '../../../shared/models/kinds/model-definition.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import { coverageOf } from '../../../worker/serving/scoring-plan.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import {
  randomRankingCase,
  randomRequest,
  type RankingCase,
} from '../../fixtures/serving/random-ranking-model.js';

beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
});

/** Whose first category has a table: that of a generated one is not read. */
function caseWithTables(): RankingCase {
  for (let seed = 0; ; seed += 1) {
    const drawn = randomRankingCase(randomStream(seed, 'refusals'), 'logistic', 'float32');
    if (drawn !== null && drawn.model.spec.options.generated === undefined) return drawn;
  }
}

test('blocks, ids and arrays that are not there', () => {
  const { model } = caseWithTables();
  const addon = loadScoringAddon(scoringAddon.path());
  for (const kernel of addon.kernels()) {
    const scorer = new KernelScorer(addon, model, [], kernel);
    const request = randomRequest(randomStream(2), { model, contextFeatures: [] }, 3);
    const logits = new Float32Array(3);
    const scored = (change: Partial<RankingRequest>) => () =>
      scorer.score({ ...request, ...change }, logits);
    expect(scored({})).not.toThrow();
    for (const block of [-1, model.blocks.blockCount, 2 ** 31 - 1])
      expect(scored({ blocks: Int32Array.of(0, 0, block) })).toThrow('no block of this number');
    for (const id of [-1, -2, 1000, 2 ** 31 - 1, -(2 ** 31)]) {
      const candidateIds = Int32Array.from(request.candidateIds);
      candidateIds[0] = id;
      expect(scored({ candidateIds })).toThrow('no row of this id');
    }
    expect(scored({ candidateCount: 4 })).toThrow('an array of the request is too short');
    expect(scored({ candidateCount: -1 })).toThrow('no whole number');
  }
  expect(() => new KernelScorer(addon, model, [], 'sse9')).toThrow('does not run the kernel');
});

test('a model with a forward pass of its own', () => {
  const { model } = caseWithTables();
  const definition = defineModel({
    ...{ kind: 'own', options: {}, linear: 'always', hasFactors: false, hasHiddenLayers: false },
    blocks: () => [],
    variables: () => [],
    forward: (frame) => frame.linear(),
  });
  const get = vi.spyOn(MODELS, 'get').mockReturnValue(definition);
  const coverage = coverageOf({ ...model, spec: { ...model.spec, kind: 'own' } });
  get.mockRestore();
  expect(coverage).toEqual({
    isCovered: false,
    reason: 'the model own has a forward pass of its own',
  });
});
