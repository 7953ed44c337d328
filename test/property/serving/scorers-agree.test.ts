// The kernel on every instruction set, the captured graph and the ONNX model give one logit, for every built-in kind of
// model, at each encoding of the blocks. The ONNX file is read back and evaluated by the definitions of the operators, in
// double precision. Seen to fail: variances of the bias left out, empty places of a bag read as row 0, weights of
// another input after one that is 0, the context's columns added twice, pairs of fields in
// another order.

import { beforeAll, describe, expect, test } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { at, int32At } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { adaptedTaskOf, blockBytes } from '../../../shared/bundle/block-codec.js';
import { BLOCK_ENCODINGS, type RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { EncodedRows } from '../../../shared/features/row-encoder.js';
import { VARIANCES } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { elementCountOf } from '../../../shared/tensors/named-tensors.js';
import { type Engine, loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { RowScorer } from '../../../worker/compute/job/row-scorer.js';
import { modelGraphOf } from '../../../worker/serving/interchange/model-graph.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import {
  type RankingRequest,
  type RequestLayout,
  requestLayoutOf,
} from '../../../worker/serving/ranking-request.js';
import { isCovered } from '../../../worker/serving/scoring-plan.js';
import { moderatedLogit } from '../../fixtures/moderated-logit.js';
import { bundleAround, expectedOf, modelInputs } from '../../fixtures/serving/converted-case.js';
import { readOnnxModel, type ReadOnnxModel } from '../../fixtures/serving/onnx-model.js';
import {
  randomRankingCase,
  randomRequest,
  type RankingCase,
} from '../../fixtures/serving/random-ranking-model.js';

class GraphScorer {
  readonly #model: RankingModel;
  readonly #layout: RequestLayout;
  readonly #rows: RowScorer;

  /** @param contextFeatures features that a request has once; the others it has for each candidate. */
  constructor(engine: Engine, model: RankingModel, contextFeatures: readonly string[]) {
    this.#model = model;
    this.#layout = requestLayoutOf(model.spec, contextFeatures);
    const { spec, dense, tables } = model;
    this.#rows = new RowScorer(engine, { spec, dense, tables });
  }

  score(request: RankingRequest, logits: Float32Array): void {
    const candidatesByBlock = new Map<number, number[]>();
    for (let candidate = 0; candidate < request.candidateCount; candidate += 1) {
      const block = int32At(request.blocks, candidate);
      const others = candidatesByBlock.get(block);
      if (others === undefined) candidatesByBlock.set(block, [candidate]);
      else others.push(candidate);
    }
    const scored = [...candidatesByBlock].map(([block, candidates]) => ({
      adapted: adaptedTaskOf(this.#model.blocks, block),
      rows: this.#rowsOf(request, candidates),
    }));
    const found = this.#rows.score(scored);
    for (const [place, candidates] of [...candidatesByBlock.values()].entries())
      for (const [row, candidate] of candidates.entries())
        logits[candidate] = at(at(found, place), row);
  }

  release(): void {
    this.#rows.dispose();
  }

  /** Candidates as rows of a task. */
  #rowsOf(request: RankingRequest, candidates: readonly number[]): EncodedRows {
    const { ids, numbers, idCounts, numberCounts } = this.#layout;
    const { contextIds, candidateIds, contextNumbers, candidateNumbers } = request;
    const idColumns = ids.map(({ side, firstPlace, placeCount }) => {
      const column = new Int32Array(candidates.length * placeCount);
      for (const [row, candidate] of candidates.entries()) {
        const first = (side === 'context' ? 0 : candidate * idCounts.candidate) + firstPlace;
        const from = side === 'context' ? contextIds : candidateIds;
        column.set(from.subarray(first, first + placeCount), row * placeCount);
      }
      return column;
    });
    const categoryCount = this.#model.spec.categoryFeatures.length;
    return {
      rowCount: candidates.length,
      categoryIds: idColumns.slice(0, categoryCount),
      bagIds: idColumns.slice(categoryCount),
      numbers: numbers.map(({ side, firstPlace }) =>
        Float32Array.from(candidates, (candidate) =>
          side === 'context'
            ? at(contextNumbers, firstPlace)
            : at(candidateNumbers, candidate * numberCounts.candidate + firstPlace),
        ),
      ),
    };
  }
}

const KINDS = MODELS.all().map(({ kind }) => kind);
const CASES_PER_KIND = 8;
const GRAPH_CASES_PER_KIND = 2;
const TOLERANCE = 1e-5;

let engine: Engine;
let addon: ReturnType<typeof loadScoringAddon>;
beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
  addon = loadScoringAddon(scoringAddon.path());
  engine = await loadEngine('tensorflow', () => undefined);
});

function* casesOf(kind: string, wanted: number): Generator<RankingCase> {
  let found = 0;
  for (let seed = 0; found < wanted; seed += 1) {
    const encoding = at(BLOCK_ENCODINGS, seed % BLOCK_ENCODINGS.length);
    const drawn = randomRankingCase(randomStream(seed, kind), kind, encoding);
    if (drawn === null || !isCovered(drawn.model)) continue;
    found += 1;
    yield drawn;
  }
}

function expectEqual(found: Float32Array, expected: Float32Array, what: RankingCase): void {
  for (const [index, value] of expected.entries()) {
    const difference = Math.abs(at(found, index) - value);
    if (difference <= TOLERANCE * Math.max(1, Math.abs(value))) continue;
    const { spec, blocks } = what.model;
    const said = JSON.stringify({
      ...spec.options,
      kind: spec.kind,
      encoding: blocks.layout.encoding,
    });
    expect.fail(`candidate ${index}: ${at(found, index)} instead of ${value}: ${said}`);
  }
}

/** The same model, whose blocks have no variance; null if they have none anyhow. */
function withoutVariance(model: RankingModel): RankingModel | null {
  const { layout, blockCount } = model.blocks;
  const part = layout.parts.find(({ name }) => name === VARIANCES);
  if (part === undefined) return null;
  const shards = model.blocks.shards.map((shard) => shard.slice());
  const blocks = { ...model.blocks, shards };
  const byteCount = elementCountOf(part.shape) * (part.encoding === 'float32' ? 4 : 2);
  for (let block = 0; block < blockCount; block += 1)
    blockBytes(blocks, block).fill(0, part.byteOffset, part.byteOffset + byteCount);
  return { ...model, blocks };
}

/** The model as ONNX, read back. */
function readBack(bundle: ReturnType<typeof bundleAround>): ReadOnnxModel {
  const { bytes, external } = modelGraphOf(bundle).model({});
  const last = external.at(-1);
  const data = new Uint8Array(last === undefined ? 0 : last.byteOffset + last.byteCount);
  for (const { array, byteOffset } of external)
    data.set(Buffer.concat([...array.pieces()].map((piece) => Buffer.from(piece))), byteOffset);
  return readOnnxModel(bytes, data);
}

describe.each(KINDS)('%s', (kind) => {
  test('the kernel agrees with the ONNX model', () => {
    for (const [index, drawn] of [...casesOf(kind, CASES_PER_KIND)].entries()) {
      const random = randomStream(index, 'request', kind);
      const bundle = bundleAround(drawn.model, random);
      const onnx = readBack(bundle);
      const scorers = addon
        .kernels()
        .map((name) => new KernelScorer(addon, drawn.model, drawn.contextFeatures, name));
      // A scorer keeps room between requests, which must not show.
      for (const count of [1 + random.below(70), 1 + random.below(3)]) {
        const request = randomRequest(random, drawn, count);
        const inputs = modelInputs(drawn, request);
        expect(onnx.inputs).toEqual(inputs.map(({ name }) => name));
        const found = onnx.evaluate(Object.fromEntries(inputs.map((each) => [each.name, each])));
        const scores = Float32Array.from(found['score']!.values);
        for (const scorer of scorers) {
          const logits = new Float32Array(count);
          scorer.score(request, logits);
          expectEqual(logits, scores, drawn);
        }
        const expected = scores.map((score, row) =>
          expectedOf(bundle, at(request.blocks, row), score),
        );
        expectEqual(Float32Array.from(found['expected']!.values), expected, drawn);
      }
    }
  });

  test('the captured graph agrees with the kernel', () => {
    for (const [index, drawn] of [...casesOf(kind, GRAPH_CASES_PER_KIND)].entries()) {
      const request = randomRequest(randomStream(index, 'request', kind), drawn, 12);
      const graph = new GraphScorer(engine, drawn.model, drawn.contextFeatures);
      const kernel = new KernelScorer(addon, drawn.model, drawn.contextFeatures);
      const [found, expected] = [graph, kernel].map((scorer) => {
        const logits = new Float32Array(request.candidateCount);
        scorer.score(request, logits);
        scorer.release();
        return logits;
      });
      expectEqual(found!, expected!, drawn);
    }
  });
});

test('the kernel returns the variances that it moderates by', () => {
  let moderatedCount = 0;
  for (const kind of KINDS)
    for (const [index, drawn] of [...casesOf(kind, CASES_PER_KIND)].entries()) {
      const request = randomRequest(randomStream(index, 'request', kind), drawn, 60);
      const scoresOf = (model: RankingModel, kernel: string) => {
        const logits = new Float32Array(request.candidateCount);
        const variances = new Float32Array(request.candidateCount).fill(-1);
        const scorer = new KernelScorer(addon, model, drawn.contextFeatures, kernel);
        scorer.score(request, logits, variances);
        scorer.release();
        return { logits, variances };
      };
      const plain = withoutVariance(drawn.model);
      for (const kernel of addon.kernels()) {
        const found = scoresOf(drawn.model, kernel);
        if (plain === null) {
          expect(found.variances.every((variance) => variance === 0)).toBe(true);
          continue;
        }
        const modes = scoresOf(plain, kernel).logits;
        const moderated = found.variances.map((variance, row) =>
          moderatedLogit(at(modes, row), variance),
        );
        expectEqual(found.logits, moderated, drawn);
        moderatedCount += found.variances.filter((variance) => variance > 0.01).length;
      }
    }
  expect(moderatedCount).toBeGreaterThan(1_000);
});
