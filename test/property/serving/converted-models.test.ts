/**
 * A model as ONNX gives the scores of the reference scorer, for every built-in kind of model at each encoding of
 * the blocks. The file is read back and evaluated by the definitions of the operators. Seen to fail: int8 without
 * block 0, the level left out, empty places of a bag counted, pairs of fields in another order.
 */

import { describe, expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { BLOCK_ENCODINGS } from '../../../shared/bundle/ranking-model.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { modelGraphOf } from '../../../worker/serving/interchange/model-graph.js';
import { onnxModelOf } from '../../../worker/serving/interchange/onnx-model.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import { ReferenceScorer } from '../../../worker/serving/reference-scorer.js';
import { coverageOf } from '../../../worker/serving/scoring-plan.js';
import { bundleAround, expectedOf, modelInputs } from '../../fixtures/serving/converted-case.js';
import { readOnnxModel } from '../../fixtures/serving/onnx-model.js';
import {
  randomRankingCase,
  randomRequest,
  type RankingCase,
} from '../../fixtures/serving/random-ranking-model.js';

const KINDS = MODELS.all().map(({ kind }) => kind);
const CASES_PER_KIND = 15;
const CANDIDATES = 5;
const TOLERANCE = 1e-5;

interface ConvertedCase {
  readonly drawn: RankingCase;
  readonly bundle: ReturnType<typeof bundleAround>;
  readonly request: RankingRequest;
  readonly scores: Float32Array;
}

function* casesOf(kind: string, wanted: number): Generator<ConvertedCase> {
  let found = 0;
  for (let seed = 0; found < wanted; seed += 1) {
    const random = randomStream(seed, 'converted', kind);
    const encoding = at(BLOCK_ENCODINGS, seed % BLOCK_ENCODINGS.length);
    const model = randomRankingCase(random, kind, encoding)?.model;
    if (model === undefined || !coverageOf(model).isCovered) continue;
    found += 1;
    const drawn = { model, contextFeatures: [] };
    const request = randomRequest(random, drawn, CANDIDATES);
    const scores = new Float32Array(CANDIDATES);
    new ReferenceScorer(model, []).score(request, scores);
    yield { drawn, bundle: bundleAround(model, random), request, scores };
  }
}

function expectScores(
  { drawn, bundle, request, scores }: ConvertedCase,
  found: { readonly score: ArrayLike<number>; readonly expected: ArrayLike<number> },
): void {
  expect(found.score.length).toBe(CANDIDATES);
  for (const [row, score] of scores.entries()) {
    const expected = expectedOf(bundle, at(request.blocks, row), score);
    const pairs = [
      [at(found.score, row), score],
      [at(found.expected, row), expected],
    ] as const;
    for (const [value, wanted] of pairs) {
      if (Math.abs(value - wanted) <= TOLERANCE * Math.max(1, Math.abs(wanted))) continue;
      const { spec, blocks } = drawn.model;
      const { encoding } = blocks.layout;
      const said = JSON.stringify({ ...spec.options, kind: spec.kind, encoding });
      expect.fail(`row ${row}: ${value} instead of ${wanted}: ${said}`);
    }
  }
}

describe.each(KINDS)('%s', (kind) => {
  test('as ONNX', () => {
    for (const each of casesOf(kind, CASES_PER_KIND)) {
      const graph = modelGraphOf(each.bundle);
      const { bytes, external } = onnxModelOf(graph, 'model.data', { bundle: 'b' });
      const data = new Uint8Array(
        external.reduce(
          (end, { byteOffset, byteCount }) => Math.max(end, byteOffset + byteCount),
          0,
        ),
      );
      for (const { array, byteOffset } of external) {
        let start = byteOffset;
        for (const piece of array.pieces()) {
          data.set(piece, start);
          start += piece.byteLength;
        }
      }
      const inputs = modelInputs(each.drawn, each.request);
      const model = readOnnxModel(bytes, data);
      expect(model.inputs).toEqual(inputs.map(({ name }) => name));
      const found = model.evaluate(Object.fromEntries(inputs.map((input) => [input.name, input])));
      expectScores(each, { score: found['score']!.values, expected: found['expected']!.values });
    }
  });
});
