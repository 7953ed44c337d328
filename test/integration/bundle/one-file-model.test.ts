/**
 * The smallest model: one definition, in this file alone, which trains, is exported, and is scored alike by the
 * kernel, plain TypeScript, the captured graph and the ONNX model.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { train } from '../../../coordinator/training/outer-loop.js';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { at } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import {
  initialMetaParameters,
  metaParametersDigest,
} from '../../../shared/models/meta-parameters.js';
import { defineModel } from '../../../shared/models/kinds/model-definition.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { GraphScorer } from '../../fixtures/serving/graph-scorer.js';
import { modelGraphOf } from '../../../worker/serving/interchange/model-graph.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import { ReferenceScorer } from '../../../worker/serving/reference-scorer.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
  type ExportRoom,
} from '../../fixtures/bundle/tiny-export.js';
import { modelInputs } from '../../fixtures/serving/converted-case.js';
import { readOnnxModel } from '../../fixtures/serving/onnx-model.js';
import { randomRequest } from '../../fixtures/serving/random-ranking-model.js';
import { tinyRun } from '../../fixtures/training/training-run.js';

// As an entry of `shared/models/kinds/models.ts` or as the file of a plugin has it.
const model = defineModel({
  kind: 'weighed-pairs-and-tower',
  options: {},
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: true,
  terms: () => ({
    tower: { over: 'fields', products: { outer: true } },
    weighed: { inner: 'pairs' },
  }),
});
MODELS.add(model.kind, model, { path: 'one-file-model.js', sha256: '1'.repeat(64) });

const OUTER_STEPS = 6;
const CANDIDATES = 20;
const store = exportableStore({
  ...{ taskCount: 12, categoryRowCounts: [9, 5], bags: [{ rowCount: 6, lengthMax: 3 }] },
  numberCount: 1,
});

let room: ExportRoom;
beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
  room = await exportRoom(() => store);
});
afterAll(() => room.close());

test('trains, exports, and gives one score everywhere', async () => {
  const config = exportableConfig(store, {
    model: {
      ...{ kind: model.kind, embeddingWidth: 3, hiddenWidths: [5, 4], adgroupEmbedding: true },
      personal: ['bias', 'adgroupEmbedding', 'output'],
    },
    method: { kind: 'fomaml', innerSteps: 2, innerRate: 0.2 },
    training: { outerSteps: OUTER_STEPS, tasksPerOuterStep: 4 },
  });
  const initial = exportSource(config, store);
  const { spec } = initial.run;
  const run = tinyRun(config, { dispatcher: room.dispatcher(), spec }, store);
  const trained = (await train(run.options)).state.metaParameters;
  const digest = metaParametersDigest(trained);
  expect(digest).not.toBe(metaParametersDigest(initialMetaParameters(spec, config.seed)));

  const objects = new MemoryObjectStore();
  const checkpoint = { outerStep: OUTER_STEPS, digest, fingerprints: [] };
  const source = { ...initial, parameters: trained, checkpoint };
  const exported = await room.exported(source, objects);
  const bundle = await readBundle(exported.manifest, filesOf(objects), exported.digest);

  const drawn = { model: bundle.model, contextFeatures: [] };
  const request = randomRequest(randomStream(1), drawn, CANDIDATES);
  const addon = loadScoringAddon(scoringAddon.path());
  const graph = new GraphScorer(room.executor.engine, bundle.model, []);
  const [expected, ...others] = [
    new ReferenceScorer(bundle.model, []),
    new KernelScorer(addon, bundle.model, []),
    graph,
  ].map((scorer) => {
    const logits = new Float32Array(CANDIDATES);
    scorer.score(request, logits);
    return logits;
  });
  const { bytes } = modelGraphOf(bundle).model({});
  const inputs = modelInputs(drawn, request);
  const { score } = readOnnxModel(bytes, new Uint8Array()).evaluate(
    Object.fromEntries(inputs.map((input) => [input.name, input])),
  );
  for (const scores of [...others, Float32Array.from(score!.values)])
    for (const [candidate, value] of expected!.entries())
      expect(at(scores, candidate)).toBeCloseTo(value, 5);
});
