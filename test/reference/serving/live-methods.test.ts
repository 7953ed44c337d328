/**
 * Methods that make a start or a step of an adgroup's evidence, adapted without TensorFlow against `adapt` jobs: blocks of a
 * bundle that the workers adapted are met to 1e-5 from the same rows, of clicks and of values, with no row, one and many.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/serving/scoring-addon.mjs';
import { at } from '../../../shared/base/arrays.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { blockBytes, readBlock } from '../../../shared/bundle/block-codec.js';
import type { BundleServing } from '../../../shared/bundle/bundle-manifest.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { readBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { labelsOf } from '../../../shared/tasks/task-label.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import {
  nativeProduct,
  plainProduct,
  type AddProduct,
} from '../../../worker/serving/dense-product.js';
import {
  adaptationCoverage,
  adaptedValues,
} from '../../../worker/serving/adaptation/live-adaptation.js';
import { loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
  type ExportRoom,
} from '../../fixtures/bundle/tiny-export.js';
import { supportRowsOf } from '../../fixtures/serving/support-rows-of.js';

/** A third of the adgroups has no support rows, the others have up to 16. */
const STORE = exportableStore({
  ...{ seed: 34, taskCount: 18, categoryRowCounts: [9, 5], bags: [{ rowCount: 6, lengthMax: 3 }] },
  ...{ numberCount: 2, losses: ['binary', 'squared'], counts: true, hasEmptySets: true },
});
const tower = { embeddingWidth: 3, hiddenWidths: [5, 4], adgroupEmbedding: true };
const head = ['bias', 'adgroupEmbedding', 'output'];
const all = [...head, 'layer0', 'layer1'];
const deepfm = { kind: 'deepfm', ...tower, personal: head };
const logistic = { kind: 'logistic', hiddenWidths: [], personal: ['bias'] };
const widths = { rowWidth: 6, taskWidth: 4 };
const steps = { innerSteps: 3, innerRate: 0.1 };
const rated = { ...steps, momentum: 0.5, supportBatches: 2, levelShift: true };

interface Case {
  readonly model: object;
  readonly method: object;
  /** Those of the method when absent. */
  readonly served?: BundleServing['adaptation'];
}

const CASES: Readonly<Record<string, Case>> = {
  'encoder alone, deepfm': {
    model: deepfm,
    method: { kind: 'encoder', ...widths, innerSteps: 0 },
  },
  'encoder alone, served with steps, deepfm by field': {
    model: { kind: 'deepfm', ...tower, interactions: 'by-field', personal: all },
    method: { kind: 'encoder', ...widths, innerSteps: 0, features: ['number1', 'bag0'] },
    served: { innerRate: 0.2, innerSteps: 2 },
  },
  'encoder with steps, served without, logistic': {
    model: logistic,
    method: { kind: 'encoder', ...widths, ...rated },
    served: { innerRate: 0.2, innerSteps: 0 },
  },
  'encoder and level, deepfm with support inputs': {
    model: { ...deepfm, supportInputs: { clickRate: true, targetEncodings: ['category1'] } },
    method: { kind: 'encoder', ...widths, ...rated },
  },
  'encoder, dcn-v2': {
    model: { kind: 'dcn-v2', ...tower, crossLayers: 2, personal: all },
    method: { kind: 'encoder', ...widths, ...steps, features: ['category1'] },
  },
  'encoder and level, logistic': {
    model: logistic,
    method: { kind: 'encoder', ...widths, ...rated },
  },
  'encoder, mlp without linear terms': {
    model: { kind: 'mlp', ...tower, adgroupEmbedding: false, personal: ['bias', 'layer1'] },
    method: { kind: 'encoder', ...widths, ...steps },
  },
  'encoder, deepfm with trained padding': {
    model: { ...deepfm, padding: 'trained' },
    method: { kind: 'encoder', ...widths, innerSteps: 0 },
  },
  'encoder of a category with a generated embedding, deepfm': {
    model: { ...deepfm, generated: 'category0' },
    method: { kind: 'encoder', ...widths, ...steps },
  },
  'paml-gate of a category with a generated embedding, mlp': {
    model: { kind: 'mlp', ...tower, personal: head, generated: 'category1' },
    method: { kind: 'paml-gate', ...steps, preferenceWidth: 5, features: ['category1'] },
  },
  'paml-rate with an attribute that has a generated embedding, deepfm': {
    model: { ...deepfm, generated: 'category0' },
    method: { kind: 'paml-rate', ...steps, leafRateScale: 2, attributes: ['category0'] },
  },
  'encoder without linear weights, deepfm with support inputs': {
    model: { ...deepfm, supportInputs: { clickRate: true, count: true } },
    method: { kind: 'encoder', ...widths, innerSteps: 0, linearWeights: false },
  },
  'encoder of labels alone, logistic': {
    model: logistic,
    method: { kind: 'encoder', ...widths, innerSteps: 0, linearWeights: false },
  },
  'paml-gate, deepfm': {
    model: deepfm,
    method: { kind: 'paml-gate', ...rated, preferenceWidth: 5 },
  },
  'paml-gate with attributes, dcn-v2': {
    model: { kind: 'dcn-v2', ...tower, crossRank: 2, crossTower: 'stacked', personal: all },
    method: {
      ...{ kind: 'paml-gate', ...steps, preferenceWidth: 5 },
      ...{ features: ['bag0', 'category0'], attributes: ['number0', 'category1'] },
    },
  },
  'paml-gate, logistic': {
    model: logistic,
    method: { kind: 'paml-gate', ...steps, preferenceWidth: 5, features: ['number1'] },
  },
  'paml-gate, served without steps, deepfm': {
    model: { ...deepfm, supportInputs: { count: true } },
    method: { kind: 'paml-gate', ...rated, preferenceWidth: 5 },
    served: { innerRate: 0.2, innerSteps: 0 },
  },
  'paml-rate, deepfm': {
    model: deepfm,
    method: { kind: 'paml-rate', ...rated, treeDepth: 2 },
  },
  'paml-rate with attributes, dcn-v2': {
    model: { kind: 'dcn-v2', ...tower, crossLayers: 2, personal: all },
    method: { kind: 'paml-rate', ...steps, leafRateScale: 2, attributes: ['bag0', 'number1'] },
  },
  'shrinkage, deepfm': {
    model: deepfm,
    method: { kind: 'shrinkage', innerSteps: 3, innerRate: 0.5, priorDeviation: { output: 2 } },
  },
  'shrinkage and level, logistic': {
    model: logistic,
    method: { kind: 'shrinkage', ...rated, curvature: 2 },
  },
  'maml++, a rate by step, deepfm': {
    model: deepfm,
    method: { kind: 'maml++', ...rated, rates: 'parameter' },
    served: { innerRate: 0.1, innerSteps: 4 },
  },
  'maml++, one rate by step, deepfm': {
    model: deepfm,
    method: { kind: 'maml++', ...steps, rates: 'global', rateFactors: { output: 0.5 } },
  },
  'maml++ without learned rates, deepfm': {
    model: deepfm,
    method: { kind: 'maml++', ...steps, learnsRates: false, rateFactors: { output: 0.5 } },
  },
  'cavia, dcn-v2': {
    model: { kind: 'dcn-v2', ...tower, crossLayers: 2, personal: ['adgroupEmbedding'] },
    method: { kind: 'cavia', ...rated },
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

const FEW_ROWS = 4;

/** A bundle that serves adgroups of fewer than `FEW_ROWS` rows their starts. */
async function exported({ model, method, served }: Case): Promise<LoadedBundle> {
  const objects = new MemoryObjectStore();
  const config = exportableConfig(STORE, { model, method });
  // All methods of the cases take inner steps at a rate.
  const ofMethod = config.method as { readonly innerRate: number; readonly innerSteps: number };
  const { innerRate, innerSteps } = served ?? ofMethod;
  const serving: BundleServing = {
    adaptation: { innerRate, innerSteps },
    served: [
      { supportRowCountMin: 0, supportRowCountMax: FEW_ROWS - 1, blocks: 'unadapted' },
      { supportRowCountMin: FEW_ROWS, supportRowCountMax: null, blocks: 'adapted' },
    ],
  };
  const ofLabels = labelsOf(STORE.manifest).map(() => serving);
  const { digest } = await room.exported(exportSource(config, STORE, ofLabels), objects);
  const { manifest } = await readBundleManifest(objects, digest);
  return readBundle(manifest, filesOf(objects), digest);
}

const readTasks = (): Promise<readonly TaskRows[]> =>
  STORE.readTasks(STORE.tasks.map((_task, place) => place));

/** The attributes of an adgroup without rows are not in them. */
function readsAttributes({ method }: Case): boolean {
  return 'kind' in method && method.kind === 'paml-gate' && 'attributes' in method;
}

function exportedBlock({ index, model }: LoadedBundle, task: TaskRows) {
  const block = blockOfKey(index, at(STORE.tasks, task.taskIndex).key);
  const layout = { layout: model.blocks.layout, initial: model.dense };
  return {
    ...readBlock(layout, blockBytes(model.blocks, block)),
    supportRowCount: at(model.blocks.evidence.supportRowCounts, block),
  };
}

/** The largest distance from what every adgroup without an own block has. */
function movedMost(
  { dense }: RankingModel,
  { variables, level }: ReturnType<typeof adaptedValues>,
) {
  const distances = [...variables].flatMap(([name, { values }]) =>
    [...values].map((value, place) => Math.abs(value - dense.get(name)!.values[place]!)),
  );
  return Math.max(Math.abs(level), ...distances);
}

describe('methods without TensorFlow', () => {
  test('adgroups have no row, one row and many, of clicks and of values', async () => {
    for (const loss of ['binary', 'squared']) {
      const counts = (await readTasks())
        .filter((task) => task.loss === loss)
        .map(({ supportRowCount }) => supportRowCount);
      expect(counts).toEqual(expect.arrayContaining([0, 1]));
      expect(Math.max(...counts)).toBeGreaterThan(8);
    }
  });

  // Seen to fail: gates of block 0; labels not over their share; the level of clicks for values; a size that is not 0 without
  // rows; no start where no step follows; fields without linear terms, or of all features; support inputs left out; sides of
  // the tree that change places; rates of the last step in every one; a pull that is lost; unknown adgroups without padding;
  // zeros in place of a table's row for a generated embedding.
  test.each(Object.entries(CASES))('meet the workers: %s', async (_, sections) => {
    const bundle = await exported(sections);
    const { model, manifest } = bundle;
    const { method } = manifest;
    expect(adaptationCoverage(model, method)).toEqual({ isCovered: true });
    let farthest = 0;
    for (const task of await readTasks()) {
      const { supportRowCount } = task;
      if (supportRowCount === 0 && readsAttributes(sections)) continue;
      const expected = exportedBlock(bundle, task);
      const support = supportRowsOf(model, task);
      const { adaptation } = at(manifest.serving, 0);
      const isAdapted = supportRowCount >= FEW_ROWS;
      for (const [by, addProduct] of Object.entries(products)) {
        const given = { model, method, adaptation: isAdapted ? adaptation : null, addProduct };
        const found = adaptedValues(given, support);
        expect(Math.abs(found.level - expected.level)).toBeLessThan(1e-5);
        for (const [name, { values }] of expected.variables)
          for (const [place, value] of values.entries()) {
            const own = found.variables.get(name)!.values[place]!;
            expect(Math.abs(own - value), `${by}: ${task.taskIndex} ${name} ${place}`).toBeLessThan(
              1e-5 * Math.max(1, Math.abs(value)),
            );
          }
        farthest = Math.max(farthest, movedMost(model, found));
      }
    }
    expect(farthest).toBeGreaterThan(1e-2);
  });

  // Seen to fail: rows of adgroups that step, alone.
  test('a bundle counts the rows that a start was made of, also where no step follows', async () => {
    const { model, method } = CASES['encoder alone, deepfm']!;
    for (const [sections, isOnFewRows] of [
      [{ model, method }, true],
      [{ model, method: { kind: 'fomaml', ...steps } }, false],
    ] as const) {
      const bundle = await exported(sections);
      for (const task of await readTasks()) {
        const { supportRowCount } = task;
        const isCounted = isOnFewRows || supportRowCount >= FEW_ROWS;
        expect(exportedBlock(bundle, task).supportRowCount).toBe(isCounted ? supportRowCount : 0);
      }
    }
  });

  test.each([
    [
      'the method paml-gate with neighbours adapts with TensorFlow alone',
      { kind: 'paml-gate', neighbours: { feature: 'bag0' } },
    ],
    ['the method learned-rule adapts with TensorFlow alone', { kind: 'learned-rule' }],
  ])('refuse: %s', async (reason, method) => {
    const bundle = await exported({ model: deepfm, method: { ...steps, ...method } });
    const { model, manifest } = bundle;
    expect(adaptationCoverage(model, manifest.method)).toEqual({ isCovered: false, reason });
  });
});
