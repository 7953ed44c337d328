// Options that a model lacks are refused with their path. Options shape variables and initial
// values.

import { describe, expect, it, test } from 'vitest';
import { featureMisfits, ModelConfigSchema } from '../../../shared/models/model-config.js';
import { DataConfigSchema } from '../../../shared/config/data-config.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';

const data = DataConfigSchema.parse({
  ...{ logs: 'log.csv', store: 'store', task: 'ad', label: { column: 'clicked' } },
  features: [
    { name: 'site', kind: 'category' },
    { name: 'tags', kind: 'bag' },
    { name: 'age', kind: 'number' },
    { name: 'price', kind: 'number', scale: 'log-bucket' },
  ],
});

function misfitsIn(model: Record<string, unknown>): string[] {
  const parsed = ModelConfigSchema.safeParse(model);
  const misfits = parsed.success ? featureMisfits(parsed.data, data.features) : parsed.error.issues;
  return misfits.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('options that do not go together', () => {
  it.each<[Record<string, unknown>, string]>([
    [{ kind: 'logistic' }, 'hiddenWidths: logistic has no hidden layers: set hiddenWidths: []'],
    [
      { kind: 'ipnn', generated: 'site', personal: [] },
      'generated: ipnn has weights for pairs of fields, and a generated embedding changes their order: set interactions: by-field, or take another model',
    ],
    [
      { kind: 'fm', hiddenWidths: [], personal: ['output'] },
      'personal.0: expected each of bias, numbers at most once',
    ],
    [
      { kind: 'dcn-v2', crossLayers: 1, hiddenWidths: [], personal: ['cross1'] },
      'personal.0: expected each of bias, numbers, cross0, output at most once',
    ],
    [
      { kind: 'mlp', linear: true },
      'linear: mlp with linear weights is wide-deep: set kind: wide-deep',
    ],
    [{ crossLayers: 2 }, 'crossLayers: deepfm has no such option; it is one of dcn-v2'],
    [
      { kind: 'dcn-v2', hiddenWidths: [], crossTower: 'stacked' },
      'crossTower: without hidden layers there is no tower: leave crossTower out',
    ],
    [
      { factorisedFields: ['site', 'sight'] },
      'factorisedFields.1: expected each of site, tags, age, price at most once',
    ],
    [
      { kind: 'ipnn', factorisedFields: ['site'] },
      'factorisedFields: ipnn multiplies fields: expected at least 2 of them, found 1',
    ],
    [
      { initialisation: { tables: { age: { kind: 'glorot-uniform' } } } },
      'initialisation.tables.age: there is no feature of this name with a table; it is one of site, tags, price',
    ],
  ])('%j', (model, expected) => {
    expect(misfitsIn(model)).toEqual([expected]);
  });

  it.each([
    ['anil', {}, ['bias', 'output']],
    ['boil', {}, ['layer0', 'layer1']],
    ['boil', { adgroupEmbedding: true }, ['adgroupEmbedding', 'layer0', 'layer1']],
    ['all', { adgroupEmbedding: true }, ['bias', 'adgroupEmbedding', 'layer0', 'layer1', 'output']],
    ['all', { kind: 'logistic', hiddenWidths: [] }, ['bias']],
  ])('accepts %s as a choice of blocks: %j', (personal, model, expected) => {
    expect(ModelConfigSchema.parse({ ...model, personal }).personal).toEqual(expected);
  });
});

const features: EncodedFeature[] = [
  { name: 'film', kind: 'category', rowCount: 10, encoding: { by: 'dictionary' } },
  { name: 'title', kind: 'bag', rowCount: 21, lengthMax: 4, encoding: { by: 'dictionary' } },
];
const specOf = (model: Record<string, unknown>): ModelSpec =>
  modelSpecOf(
    ModelConfigSchema.parse({ embeddingWidth: 128, hiddenWidths: [16], ...model }),
    features,
  );
const shapesOf = (spec: ModelSpec): Record<string, readonly number[]> =>
  Object.fromEntries(spec.variables.map(({ name, shape }) => [name, shape]));

test.each<[Record<string, unknown>, Record<string, readonly number[]>, number]>([
  [{ kind: 'fm', hiddenWidths: [] }, { bias: [1] }, 129],
  [{ kind: 'fm', hiddenWidths: [], interactions: 'by-field' }, { 'output.weight': [2, 1] }, 129],
  [{ kind: 'fwfm', hiddenWidths: [] }, { 'output.weight': [1, 1] }, 129],
  [{ kind: 'mlp' }, { 'layer0.weight': [256, 16], 'output.weight': [16, 1] }, 128],
  [{ kind: 'wide-deep', wideFields: ['film'] }, { 'layer0.weight': [128, 16] }, 129],
  [{ interactions: 'by-field', linear: false }, { 'output.weight': [18, 1] }, 128],
  [{ interactions: 'by-field', factorisedFields: ['film'] }, { 'output.weight': [17, 1] }, 129],
  [{ kind: 'ipnn' }, { 'layer0.weight': [256 + 1, 16] }, 128],
  [{ kind: 'ipnn', interactions: 'by-field' }, { 'layer0.weight': [256 + 2, 16] }, 128],
  [{ kind: 'opnn' }, { 'layer0.weight': [256 + 128 * 128, 16] }, 128],
  [{ kind: 'pnn' }, { 'layer0.weight': [256 + 1 + 128 * 128, 16] }, 128],
  [{ kind: 'dcn-v2' }, { 'cross2.weight': [256, 256], 'output.weight': [256 + 16, 1] }, 128],
  [
    { kind: 'dcn-v2', crossRank: 3, crossTower: 'stacked' },
    { 'cross0.compress': [256, 3], 'cross0.expand': [3, 256], 'output.weight': [16, 1] },
    128,
  ],
])('%j shapes variables and rows', (model, shapes, tableRowWidth) => {
  const spec = specOf(model);
  expect(shapesOf(spec)).toMatchObject(shapes);
  expect(spec.tableRowWidth).toBe(tableRowWidth);
});

test('initial values: the Glorot bounds count the whole vocabulary including the padding row', () => {
  const spec = specOf({
    ...{ linear: false, padding: 'trained', embeddingDeviation: 0.01 },
    initialisation: {
      layers: 'glorot-uniform',
      tables: { title: { kind: 'glorot-uniform' }, film: { kind: 'uniform', bound: 0.25 } },
    },
  });
  expect(spec.tables.map(({ rowCount, initial }) => ({ rowCount, initial }))).toEqual([
    { rowCount: 10, initial: { kind: 'uniform', bound: 0.25 } },
    { rowCount: 22, initial: { kind: 'uniform', bound: Math.sqrt(6 / (22 + 128)) } },
  ]);
  expect(spec.variables.find(({ name }) => name === 'layer0.weight')?.initial).toEqual({
    kind: 'uniform',
    bound: Math.sqrt(6 / (256 + 16)),
  });
  const { values } = initialMetaParameters(spec, 3).tables.get('title')!;
  // The largest of 2,816 uniform values lies within 1 % of the bound, and the mean is that of a
  // symmetric distribution.
  expect(Math.max(...values)).toBeLessThanOrEqual(0.2);
  expect(Math.max(...values)).toBeGreaterThan(0.198);
  expect(Math.min(...values)).toBeLessThan(-0.198);
  expect(Math.abs(values.reduce((sum, value) => sum + value, 0) / values.length)).toBeLessThan(
    0.01,
  );
});
