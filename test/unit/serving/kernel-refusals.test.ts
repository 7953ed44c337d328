// Requests that name what is not there are refused before anything is read.

import { expect, test } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { KernelScorer } from '../../../worker/serving/kernel-scorer.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import {
  randomRankingCase,
  randomRequest,
  type RankingCase,
} from '../../fixtures/serving/random-ranking-model.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

/** Whose first category has a table: that of a generated one is not read. */
function caseWithTables(): RankingCase {
  for (let seed = 0; ; seed += 1) {
    const drawn = randomRankingCase(randomStream(seed, 'refusals'), 'logistic', 'float32');
    if (drawn !== null && drawn.model.spec.options.generated === undefined) return drawn;
  }
}

test('blocks, ids and arrays that are not there', async () => {
  const { model } = caseWithTables();
  const addon = await compiledAddon();
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
