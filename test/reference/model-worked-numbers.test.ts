// Logits worked out by hand.

import { expect, test } from 'vitest';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import { jobCaseOf, runJob, type JobCase } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { openedOnce } from '../fixtures/opened.js';
import { tinyTaskStore, type TinyStoreOptions } from '../fixtures/stores/tiny-task-store.js';

const executor = openedOnce(() =>
  createExecutor({ openStore: () => Promise.resolve(current.store) }),
);
let current: JobCase;

async function logitsOf(
  options: TinyStoreOptions,
  model: Record<string, unknown>,
  values: Readonly<Record<string, readonly number[]>> = {},
): Promise<Float32Array> {
  const store = tinyTaskStore(options);
  current = jobCaseOf({ ...store, digest: JSON.stringify([options, model]) }, model);
  for (const [name, { values: target }] of [...current.meta.dense, ...current.meta.tables]) {
    const own = values[name];
    if (own !== undefined) target.set(own);
  }
  const found = await runJob(executor, current, [0], {
    kind: 'predict',
    method: methodOf({ kind: 'global' }),
    adaptations: [{ innerSteps: 0, innerRate: 0.1 }],
    rows: 'query',
  });
  return found.tensors.get('logits')!;
}

// Three fields, one id each: e_1 = (1, 2), e_2 = (3, -1), e_3 = (2, 1). Therefore <e_1, e_2> = 1,
// <e_1, e_3> = 4, <e_2, e_3> = 5, and the sum of all is (6, 2).
const three: TinyStoreOptions = {
  ...{ taskCount: 1, categoryRowCounts: [1, 1, 1], numberCount: 0 },
  queryRowCountMax: 1,
};
const vectors = { category0: [1, 2], category1: [3, -1], category2: [2, 1], bias: [0.5] };
const withLinear = { category0: [1, 2, 0.25], category1: [3, -1, 0.5], category2: [2, 1, -1] };
const two = { embeddingWidth: 2, hiddenWidths: [] };
const none = [0, 0, 0, 0, 0, 0];

test.each<[string, Record<string, unknown>, Record<string, readonly number[]>, number]>([
  ['fm: 1 + 4 + 5', { kind: 'fm', linear: false }, {}, 10.5],
  ['fm with linear weights: 10 - 0.25', { kind: 'fm' }, withLinear, 10.25],
  [
    'fm of two fields',
    { kind: 'fm', linear: false, factorisedFields: ['category0', 'category2'] },
    {},
    4.5,
  ],
  [
    'fm by field: x = (1 + 4, 1 + 5, 4 + 5)',
    { kind: 'fm', linear: false, interactions: 'by-field' },
    { 'output.weight': [1, 10, 100] },
    965.5,
  ],
  [
    'wide-deep, no weight on the tower',
    { kind: 'wide-deep' },
    { ...withLinear, 'output.weight': none },
    0.25,
  ],
  [
    'wide-deep without its wide field: 3 - 1 + 2 + 1',
    { kind: 'wide-deep', wideFields: ['category0'] },
    { ...withLinear, 'output.weight': [1, 1, 1, 1] },
    5.25,
  ],
  [
    'deepfm by field: x = (1 + 4, 1 + 5, 4 + 5)',
    { interactions: 'by-field', linear: false },
    { 'output.weight': [...none, 1, 10, 100] },
    965.5,
  ],
  [
    'deepfm by two of three fields, against all',
    { interactions: 'by-field', linear: false, factorisedFields: ['category0', 'category2'] },
    { 'output.weight': [...none, 1, 10] },
    95.5,
  ],
  ['ipnn: 1 + 40 + 500', { kind: 'ipnn' }, { 'output.weight': [...none, 1, 10, 100] }, 541.5],
  ['fwfm: 1 + 40 + 500', { kind: 'fwfm', linear: false }, { 'output.weight': [1, 10, 100] }, 541.5],
  [
    'ipnn by two of three fields, against all',
    { kind: 'ipnn', interactions: 'by-field', factorisedFields: ['category0', 'category2'] },
    { 'output.weight': [...none, 1, 10] },
    95.5,
  ],
  [
    "opnn: (6, 2)(6, 2)' = 36, 12, 12, 4",
    { kind: 'opnn' },
    { 'output.weight': [...none, 1, 10, 100, 1000] },
    5356.5,
  ],
  [
    'pnn: inner before outer',
    { kind: 'pnn' },
    { 'output.weight': [...none, 1, 10, 100, 0, 0, 0, 1000] },
    4541.5,
  ],
  [
    'pnn by field: 5 + 60 + 900 and the outer product of (6, 2)',
    { kind: 'pnn', interactions: 'by-field' },
    { 'output.weight': [...none, 1, 10, 100, 0, 0, 0, 1000] },
    4965.5,
  ],
  [
    // x_0 = (1, 2, 3, -1, 2, 1); x_0 W = 2 x_0 + (0, 1, 0, 0, 0, 0); b = (1, 0, 0, 0, 0, 0):
    // x_0 * (3, 5, 6, -2, 4, 2) + x_0 = (4, 12, 21, 1, 10, 3).
    'a cross layer',
    { kind: 'dcn-v2', crossLayers: 1 },
    {
      'cross0.weight': Array.from({ length: 36 }, (_, at) =>
        at === 1 ? 1 : Math.floor(at / 6) === at % 6 ? 2 : 0,
      ),
      'cross0.bias': [1, 0, 0, 0, 0, 0],
      'output.weight': [1, 10, 100, 1000, 10_000, 100_000],
    },
    4 + 120 + 2100 + 1000 + 100_000 + 300_000 + 0.5,
  ],
  [
    // x_0 u = 1 + 1 = 2 with u = (1, 0, 0, 0, 0, 1); times v = (0, 1, 0, 0, 0, 0): x_1 = (1, 6, ...).
    'a cross layer of rank 1',
    { kind: 'dcn-v2', crossLayers: 1, crossRank: 1 },
    {
      'cross0.compress': [1, 0, 0, 0, 0, 1],
      'cross0.expand': [0, 1, 0, 0, 0, 0],
      'cross0.bias': none,
      'output.weight': [1, 10, 0, 0, 0, 0],
    },
    61.5,
  ],
])('%s', async (_, model, values, expected) => {
  const [logit] = await logitsOf(three, { ...two, ...model }, { ...vectors, ...values });
  expect(logit).toBeCloseTo(expected, expected > 1000 ? 0 : 4);
});

test('trained padding: the mean of a bag with three positions, two of them empty', async () => {
  const options: TinyStoreOptions = {
    ...{ taskCount: 1, categoryRowCounts: [], numberCount: 0, queryRowCountMax: 1 },
    bags: [{ rowCount: 1, lengthMax: 3 }],
  };
  const model = { kind: 'logistic', hiddenWidths: [], padding: 'trained' };
  const [logit] = await logitsOf(options, model, { bag0: [3, 30], bias: [0] });
  const [task] = await tinyTaskStore(options).readTasks([0]);
  const last = [...task!.bagIds[0]!].slice(-3);
  const members = last.filter((id) => id === 0).length;
  expect(members).toBeLessThan(3);
  expect(logit).toBeCloseTo((3 * members + 30 * (3 - members)) / 3, 4);
});
