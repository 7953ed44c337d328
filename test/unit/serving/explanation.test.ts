/** Explanations worked out by hand: a factorisation machine, and a tower that wants two features at once. */

import { expect, test } from 'vitest';
import { blockBytes, writeBlock, blockLayoutOf } from '../../../shared/bundle/block-codec.js';
import type { PersonalBlocks, RankingModel } from '../../../shared/bundle/ranking-model.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import {
  explanationsOf,
  hasExactShares,
  type ScoreExplanation,
} from '../../../worker/serving/explanation.js';
import { KernelScorer } from '../../../worker/serving/kernel-scorer.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const addon = await compiledAddon();

type Values = Readonly<Record<string, readonly number[]>>;

/**
 * A model of category features in which row 0, of unknown values, is 0, and block 1 has another bias.
 *
 * @param values of dense variables, and of row 1 of tables, by name.
 */
function modelOf(config: object, values: Values, ownBias: number): RankingModel {
  const names = Object.keys(values).filter((name) => name.startsWith('category'));
  const features = names.map((name): EncodedFeature => ({
    ...{ name, kind: 'category', rowCount: 2, encoding: { by: 'dictionary' } },
  }));
  const spec = modelSpecOf(ModelConfigSchema.parse({ ...config, personal: ['bias'] }), features);
  const { dense, tables } = initialMetaParameters(spec, 1);
  for (const [name, { values: target }] of dense) target.set(values[name] ?? [0]);
  for (const [name, { values: target }] of tables) {
    const row = values[name] ?? [];
    target.fill(0);
    target.set(row, row.length);
  }
  const layout = blockLayoutOf(spec, 'float32');
  const none = new Float64Array(2);
  const blocks: PersonalBlocks = {
    ...{ layout, shards: [new Uint8Array(2 * layout.strideByteCount)], blockCount: 2 },
    ...{ blocksPerShard: 2, isOfValues: new Uint8Array(2) },
    evidence: {
      ...{ supportRowCounts: new Uint32Array(2), clicks: none, impressions: none, byValue: null },
    },
    isAlone: new Uint8Array(2),
  };
  for (const [block, bias] of [values['bias']![0]!, ownBias].entries()) {
    const variables = new Map([['bias', { shape: [1], values: Float32Array.of(bias) }]]);
    writeBlock(layout, variables, blockBytes(blocks, block));
  }
  return { spec, dense, tables, blocks };
}

/** Of a candidate whose features all have value 1, the first of them in the context. */
function explained(model: RankingModel): ScoreExplanation | undefined {
  const ofCandidate = model.spec.categoryFeatures.length - 1;
  const request = {
    ...{ candidateCount: 1, blocks: Int32Array.of(1), contextIds: Int32Array.of(1) },
    candidateIds: new Int32Array(ofCandidate).fill(1),
    ...{ contextNumbers: new Float32Array(0), candidateNumbers: new Float32Array(0) },
  };
  const asked = { request, contextFeatures: ['category0'] };
  const scorerOf = (of: RankingModel, names: readonly string[]) =>
    new KernelScorer(addon, of, names);
  return explanationsOf(model, asked, [{ place: 0, block: 1 }], scorerOf)[0];
}

test('a factorisation machine: own linear weights, and half of each product', () => {
  // e_0 = (1, 2), e_1 = (3, -1), e_2 = (2, 1): <e_0, e_1> = 1, <e_0, e_2> = 4, <e_1, e_2> = 5.
  const values = {
    ...{ category0: [1, 2, 0.25], category1: [3, -1, 0.5], category2: [2, 1, -1], bias: [0.5] },
  };
  const model = modelOf({ kind: 'fm', embeddingWidth: 2, hiddenWidths: [] }, values, 1.5);
  expect(hasExactShares(model)).toBe(true);
  expect(explained(model)).toEqual({
    ...{ score: 11.25, base: 0.5, blockShare: 1 },
    shares: {
      category0: 0.25 + (1 + 4) / 2,
      category1: 0.5 + (1 + 5) / 2,
      category2: -1 + (4 + 5) / 2,
    },
  });
});

test('a tower: what two features add together is divided between both orders', () => {
  // relu(x_0 + x_1 - 1): 1 where both are 1, otherwise 0.
  const values = {
    ...{ category0: [1], category1: [1], bias: [0.25] },
    ...{ 'layer0.weight': [1, 1], 'layer0.bias': [-1], 'output.weight': [3] },
  };
  const config = { kind: 'mlp', embeddingWidth: 1, hiddenWidths: [1], linear: false };
  const model = modelOf(config, values, 0.75);
  expect(hasExactShares(model)).toBe(false);
  expect(explained(model)).toEqual({
    ...{ score: 3.75, base: 0.25, blockShare: 0.5 },
    shares: { category0: 1.5, category1: 1.5 },
  });
});
