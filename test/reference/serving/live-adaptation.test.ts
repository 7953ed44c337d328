/**
 * Adaptation without TensorFlow against `adapt` jobs: for every covered method and model, blocks of a bundle that the
 * workers adapted are met to 1e-5 from the same rows, with products in TypeScript and in the addon. Gradients are checked
 * by finite differences.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/serving/scoring-addon.mjs';
import { at } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { randomStream } from '../../../shared/base/random.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { blockBytes, readBlock } from '../../../shared/bundle/block-codec.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import { readBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import {
  nativeProduct,
  plainProduct,
  type AddProduct,
} from '../../../worker/serving/dense-product.js';
import {
  adaptationCoverage,
  adaptedValues,
} from '../../../worker/serving/adaptation/live-adaptation.js';
import { withSupportColumns } from '../../../worker/serving/adaptation/support-evidence.js';
import { SupportNetwork } from '../../../worker/serving/adaptation/support-network.js';
import { loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import { scoringPlanOf } from '../../../worker/serving/scoring-plan.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
  type ExportRoom,
} from '../../fixtures/bundle/tiny-export.js';
import { supportRowsOf } from '../../fixtures/serving/support-rows-of.js';

const STORE = exportableStore({
  ...{ taskCount: 6, categoryRowCounts: [9, 5], bags: [{ rowCount: 6, lengthMax: 3 }] },
  ...{ numberCount: 1, losses: ['binary', 'squared'] },
});
const tower = { embeddingWidth: 3, hiddenWidths: [5, 4], adgroupEmbedding: true };
const all = ['bias', 'adgroupEmbedding', 'output', 'layer0', 'layer1'];
const head = ['bias', 'adgroupEmbedding', 'output'];
const steps = { innerSteps: 2, innerRate: 0.2 };

interface Sections {
  readonly model: object;
  readonly method: object;
}

const CASES: Readonly<Record<string, Sections>> = {
  'deepfm, whole tower': {
    model: { kind: 'deepfm', ...tower, personal: all },
    method: { kind: 'fomaml', ...steps, momentum: 0.5, supportBatches: 2, levelShift: true },
  },
  'deepfm by field, head': {
    model: { kind: 'deepfm', ...tower, interactions: 'by-field', personal: head },
    method: { kind: 'maml', ...steps, rateFactors: { output: 0.3 } },
  },
  'deepfm with support inputs, head': {
    model: {
      ...{ kind: 'deepfm', ...tower, personal: head },
      supportInputs: { clickRate: true, count: true, targetEncodings: ['category1', 'category0'] },
    },
    method: { kind: 'fomaml', ...steps, levelShift: true },
  },
  'mlp, last layer': {
    model: { kind: 'mlp', ...tower, adgroupEmbedding: false, personal: ['bias', 'layer1'] },
    method: { kind: 'reptile', ...steps },
  },
  'wide-deep without layers': {
    model: { kind: 'wide-deep', ...tower, hiddenWidths: [], personal: head },
    method: { kind: 'imaml', ...steps, proximalWeight: 2 },
  },
  'pnn, whole tower': {
    model: { kind: 'pnn', ...tower, personal: all },
    method: { kind: 'meta-sgd', ...steps, rates: 'block', rateFactors: { bias: 2 } },
  },
  'ipnn, head': {
    model: { kind: 'ipnn', ...tower, personal: head },
    method: { kind: 'meta-sgd', ...steps, rates: 'parameter', clampsRates: true },
  },
  fwfm: {
    model: {
      kind: 'fwfm',
      embeddingWidth: 3,
      hiddenWidths: [],
      adgroupEmbedding: true,
      personal: head,
    },
    method: { kind: 'meta-sgd', ...steps, rates: 'global', rateFactors: { output: 0.5 } },
  },
  fm: {
    model: {
      kind: 'fm',
      embeddingWidth: 3,
      hiddenWidths: [],
      adgroupEmbedding: true,
      personal: ['bias', 'adgroupEmbedding'],
    },
    method: { kind: 'fomaml', ...steps, levelShift: true },
  },
  'dcn-v2 beside a tower': {
    model: { kind: 'dcn-v2', ...tower, crossLayers: 2, personal: all },
    method: { kind: 'fomaml', ...steps },
  },
  'dcn-v2 below a tower': {
    model: { kind: 'dcn-v2', ...tower, crossRank: 2, crossTower: 'stacked', personal: all },
    method: { kind: 'fomaml', ...steps },
  },
  'dcn-v2 alone': {
    model: { kind: 'dcn-v2', ...tower, hiddenWidths: [], crossRank: 2, personal: head },
    method: { kind: 'reptile', ...steps },
  },
  'dcn-v2, output alone': {
    model: { kind: 'dcn-v2', ...tower, adgroupEmbedding: false, personal: ['bias', 'output'] },
    method: { kind: 'fomaml', ...steps },
  },
  logistic: {
    model: { kind: 'logistic', hiddenWidths: [], personal: ['bias'] },
    method: { kind: 'fomaml', ...steps },
  },
  'a level alone': {
    model: {
      ...{ kind: 'deepfm', ...tower, adgroupEmbedding: false, personal: [] },
      supportInputs: { clickRate: true, count: true },
    },
    method: { kind: 'maml', innerSteps: 1, innerRate: 0.7, levelShift: true },
  },
};

let room: ExportRoom;
let products: Readonly<Record<string, AddProduct>>;
beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
  products = { plain: plainProduct, native: nativeProduct(loadScoringAddon(scoringAddon.path())) };
  room = await exportRoom(() => STORE);
});
afterAll(() => room.close());

const known = new Map<string, Promise<LoadedBundle>>();

/** Exported once for all tests. */
function loadedOf(sections: Sections): Promise<LoadedBundle> {
  const name = JSON.stringify(sections);
  const found = known.get(name) ?? exported(sections);
  known.set(name, found);
  return found;
}

async function exported(sections: Sections): Promise<LoadedBundle> {
  const objects = new MemoryObjectStore();
  const source = exportSource(exportableConfig(STORE, sections), STORE);
  const { digest } = await room.exported(source, objects);
  const { manifest } = await readBundleManifest(objects, digest);
  return readBundle(manifest, filesOf(objects), digest);
}

describe('adaptation without TensorFlow', () => {
  test.each(Object.entries(CASES))('meets the workers: %s', async (_, sections) => {
    const bundle = await loadedOf(sections);
    const { model, manifest, index, labels } = bundle;
    expect(adaptationCoverage(model, manifest.method)).toEqual({ isCovered: true });
    let movedMost = 0;
    for (const task of await STORE.readTasks(STORE.tasks.map((_task, place) => place))) {
      const key = at(STORE.tasks, task.taskIndex).key;
      const block = blockOfKey(index, key);
      const { adaptation } = at(manifest.serving, at(labels, block));
      const layout = { layout: model.blocks.layout, initial: model.dense };
      const expected = readBlock(layout, blockBytes(model.blocks, block));
      const support = supportRowsOf(bundle.model, task);
      for (const [by, addProduct] of Object.entries(products)) {
        const given = { model, method: manifest.method, adaptation, addProduct };
        const found = adaptedValues(given, support);
        expect(Math.abs(found.level - expected.level)).toBeLessThan(1e-5);
        movedMost = Math.max(movedMost, Math.abs(found.level));
        for (const [name, { values }] of expected.variables) {
          const initial = model.dense.get(name)!.values;
          for (const [place, value] of values.entries()) {
            const own = found.variables.get(name)!.values[place]!;
            expect(Math.abs(own - value), `${by}: ${name} ${place}`).toBeLessThan(
              1e-5 * Math.max(1, Math.abs(value)),
            );
            movedMost = Math.max(movedMost, Math.abs(own - initial[place]!));
          }
        }
      }
    }
    expect(movedMost).toBeGreaterThan(1e-2);
  });

  test.each(Object.entries(CASES))('has the gradient of its loss: %s', async (_, sections) => {
    const bundle = await loadedOf(sections);
    const { model } = bundle;
    const [task] = await STORE.readTasks([0]);
    const support = supportRowsOf(bundle.model, task!);
    const network = new SupportNetwork(
      model,
      scoringPlanOf(model, []),
      withSupportColumns(model.spec, support),
    );
    const random = randomStream(1, 'finite differences');
    const names = model.blocks.layout.parts.map(({ name }) => name);
    const blocks = new Map(
      names.map((name) => [
        name,
        Float64Array.from(model.dense.get(name)!.values, (value) => value + 0.3 * random.normal()),
      ]),
    );
    const lossAt = (): number =>
      network.logits(blocks).reduce((sum, logit, row) => {
        const softplus = Math.log1p(Math.exp(-Math.abs(logit))) + Math.max(0, logit);
        return sum + support.impressions[row]! * softplus - support.clicks[row]! * logit;
      }, 0);
    const gradients = new Map(
      names.map((name) => [name, new Float64Array(blocks.get(name)!.length)]),
    );
    network.addGradient(
      blocks,
      (row, logit) => support.impressions[row]! * sigmoid(logit) - support.clicks[row]!,
      gradients,
    );
    const step = 1e-6;
    for (const name of names) {
      const values = blocks.get(name)!;
      for (const place of values.keys()) {
        const value = values[place]!;
        values[place] = value + step;
        const above = lossAt();
        values[place] = value - step;
        const difference = (above - lossAt()) / (2 * step);
        values[place] = value;
        const gradient = gradients.get(name)![place]!;
        expect(Math.abs(gradient - difference), `${name} ${place}`).toBeLessThan(
          1e-5 * Math.max(1, Math.abs(gradient)),
        );
      }
    }
  });

  test.each([
    ['learned-rule', { kind: 'learned-rule' }, {}],
    ['levelShift.features', { kind: 'fomaml', levelShift: { features: ['category1'] } }, {}],
    ['numbers', { kind: 'fomaml' }, { personal: ['bias', 'adgroupEmbedding', 'numbers'] }],
  ])('refuses by name what it does not compute: %s', async (name, method, model) => {
    const { model: loaded, manifest } = await loadedOf({
      model: { kind: 'deepfm', ...tower, personal: head, ...model },
      method: { ...steps, ...method },
    });
    const coverage = adaptationCoverage(loaded, manifest.method);
    expect(coverage.isCovered ? '' : coverage.reason).toContain(name);
  });
});
