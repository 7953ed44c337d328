/**
 * A model as ONNX and as a SavedModel gives the scores of the reference scorer, for every built-in kind of model
 * at each encoding of the blocks. ONNX is read back and evaluated by the definitions of its operators, the
 * SavedModel by TensorFlow's own loader. Seen to fail: int8 without block 0, the level left out, empty places
 * of a bag counted, pairs of fields in another order.
 */

import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { BLOCK_ENCODINGS } from '../../../shared/bundle/ranking-model.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import { nativeBackendOf } from '../../../worker/compute/engine/native-backend.js';
import { modelGraphOf } from '../../../worker/serving/interchange/model-graph.js';
import { onnxModelOf } from '../../../worker/serving/interchange/onnx-model.js';
import { writeSavedModel } from '../../../worker/serving/interchange/written-model.js';
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
const SAVED_CASES_PER_KIND = 3;
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

let engine: Engine;
const folder = mkdtempSync(join(tmpdir(), 'qianmo-converted-'));
beforeAll(async () => {
  engine = await loadEngine('tensorflow', () => undefined);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

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

  test('as a SavedModel', async () => {
    const native = nativeBackendOf(engine.tf);
    if (native === null) throw new Error('no native backend');
    for (const [place, each] of [...casesOf(kind, SAVED_CASES_PER_KIND)].entries()) {
      const own = join(folder, `${kind}-${place}`);
      mkdirSync(own);
      await writeSavedModel(modelGraphOf(each.bundle), own);
      const model = native.binding.loadSavedModel(own, 'serve');
      const inputs = modelInputs(each.drawn, each.request);
      const tensors = inputs.map(({ values, shape, type }) =>
        engine.tf.tensor([...values], [...shape], type),
      );
      const names = inputs.map((_, input) => `input_${input}:0`).join(',');
      const [score, expected] = native.binding
        .runSavedModel(
          model,
          native.getInputTensorIds(tensors),
          names,
          'output_score:0,output_expected:0',
        )
        .map((result) => native.createOutputTensor(result));
      expectScores(each, { score: score!.dataSync(), expected: expected!.dataSync() });
      engine.tf.dispose([...tensors, score!, expected!]);
      native.binding.deleteSavedModel(model);
    }
  });
});
