/** The models of the bench: one trunk, with and without inputs from support rows, and each way to adapt it. */

import { mkdirSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import { withAutoSection } from '../../../shared/config/search/auto-config.js';
import type { Unit } from '../real/arm-units.js';
import type { RealCell, WrittenCell } from '../real/cell-files.js';
import { evaluatedArms, qianmo } from '../real/evaluated-arms.js';
import { dataOf } from '../real/product-units.js';

export const INPUTS = ['none', 'rate'] as const;
export type Inputs = (typeof INPUTS)[number];

const BLOCKS = ['bias', 'adgroupEmbedding', 'output'];
const STEPS = { innerSteps: 3, innerRate: 0.1 };

interface Way {
  readonly personal: readonly string[];
  /** @param attributes features that say something of the whole task */
  readonly method: (attributes: readonly string[]) => object;
}

export const WAYS = {
  nothing: { personal: [], method: () => ({ kind: 'global' }) },
  shift: { personal: [], method: () => ({ kind: 'maml', innerSteps: 1, levelShift: true }) },
  steps: { personal: BLOCKS, method: () => ({ kind: 'fomaml', ...STEPS }) },
  'steps and shift': {
    personal: BLOCKS,
    method: () => ({ kind: 'fomaml', ...STEPS, levelShift: true }),
  },
  'learned rates': { personal: BLOCKS, method: () => ({ kind: 'meta-sgd', ...STEPS }) },
  'rates by task': {
    personal: BLOCKS,
    method: (attributes) => ({ kind: 'paml-rate', ...STEPS, attributes }),
  },
  gates: {
    personal: BLOCKS,
    method: (attributes) => ({ kind: 'paml-gate', ...STEPS, attributes }),
  },
  shrinkage: { personal: BLOCKS, method: () => ({ kind: 'shrinkage', innerSteps: 3 }) },
  'generated blocks': { personal: BLOCKS, method: () => ({ kind: 'encoder', innerSteps: 0 }) },
} as const satisfies Record<string, Way>;
export type WayName = keyof typeof WAYS;

/** By set, of what the whole task is one value: the film, the book, the advertised item. */
export const ATTRIBUTES: Readonly<Record<string, readonly string[]>> = {
  'movielens-small': ['genres', 'decade'],
  'movielens-1m': ['genres', 'decade'],
  dbook: ['author', 'publisher', 'year'],
  'open-bandit': ['item_feature_1', 'item_feature_2', 'item_feature_3'],
  'synthetic-strong': ['advertiser', 'category', 'brand'],
  'synthetic-homogeneous': ['advertiser', 'category', 'brand'],
};

const TRAINING = {
  ...{ outerSteps: 1000, tasksPerOuterStep: 16, taskWeight: 'examples' },
  optimizer: { kind: 'adam', rate: 0.005 },
  schedule: { warmupOuterSteps: 20, decay: 'cosine', finalShare: 0.05 },
  ...{ weightDecay: 0.1, dropout: 0.3, inputDropout: 0.3, idDropout: 0.1 },
  ...{ gradientNormMax: 5, biasStart: 'click-rate' },
  earlyStopping: { everyOuterSteps: 50, patience: 5, tasksMax: 500 },
};

/** The name of the model, which the names of its arms begin with: `qianmo-rate-steps-meta-chosen`. */
export function modelName(inputs: Inputs, way: WayName): string {
  return `${inputs}-${way.replaceAll(' ', '-')}`;
}

/** The arm that a bundle of the run serves. */
export function servedArm(inputs: Inputs, way: WayName): string {
  return `qianmo-${modelName(inputs, way)}-${way === 'nothing' ? 'global' : 'meta-chosen'}`;
}

export function adaptationUnit(
  { set, seed }: RealCell,
  { files, trainClickRate }: WrittenCell,
  inputs: Inputs,
  wayName: WayName,
): Unit {
  const name = modelName(inputs, wayName);
  const output = join(files.folder, `run-${name}`);
  const store = join(files.folder, 'store');
  const text = configText(
    { set, seed },
    { inputs, way: WAYS[wayName], trainClickRate },
    {
      ...{ run: name, data: encodedData(dataOf(set, files, store)), output },
    },
  );
  return {
    ...{ name: `qianmo-${name}`, side: 'product', folder: files.folder, wanted: text },
    run: async () => {
      mkdirSync(output, { recursive: true });
      const path = join(output, 'run.yaml');
      writeFileSync(path, text);
      if (!existsSync(join(store, 'manifest.json'))) await qianmo('prepare', path);
      await qianmo('train', path, '--processes', '1', '--fresh');
      return evaluatedArms(name, { config: path, tried: 1 }, files);
    },
  };
}

/** The data section with the encodings across tasks that a search has. */
function encodedData(data: object): unknown {
  return z.looseObject({ data: z.unknown() }).parse(withAutoSection({ auto: {}, data })).data;
}

function configText(
  { set, seed }: Pick<RealCell, 'set' | 'seed'>,
  { inputs, way, trainClickRate }: { inputs: Inputs; way: Way; trainClickRate: number },
  place: { readonly run: string; readonly data: unknown; readonly output: string },
): string {
  const priorRate = Number(trainClickRate.toPrecision(3));
  const smoothing = Math.max(10, Math.round(2 / priorRate));
  const supportInputs = { clickRate: true, count: true, smoothing, priorRate };
  return stringify({
    ...{ ...place, seed },
    model: {
      ...{ kind: 'deepfm', embeddingWidth: 16, hiddenWidths: [64, 32], embeddingDeviation: 0.05 },
      ...{ personal: way.personal, adgroupEmbedding: way.personal.includes('adgroupEmbedding') },
      ...(inputs === 'none' ? {} : { supportInputs }),
    },
    method: way.method(ATTRIBUTES[set.name] ?? []),
    training: TRAINING,
  });
}
