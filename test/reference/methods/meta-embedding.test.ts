/**
 * The generator's gradient, with its Hessian term, against a float64 referee, which is itself
 * checked against central finite differences of the outer loss. It is also checked on worked
 * numbers.
 */

import { expect, test } from 'vitest';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { createExecutor } from '../../../worker/compute/job/create-executor.js';
import {
  jobCaseOf,
  relativeDifference,
  runJob,
  type JobCase,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { openedOnce } from '../../fixtures/opened.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { tanhOf } from '../method-jobs.js';
import { denseValuesOf, Leaves, lossNode, queryOf, supportOf, type RowSpan } from '../referee.js';
import { ScalarTape } from '../scalar-tape.js';

const ROWS_PER_SET = 3;
const TASK_COUNT = 5;
const weights = [0.1, 0.4, 0.2, 0.05, 0.25];
const coldWeights = [0.1, 0.15, 0.2, 0.25, 0.3];
const coldShare = 0.3;
const innerRate = 3;
const small = { embeddingWidth: 3, hiddenWidths: [5, 4], personal: [] };

/** Numbers of support and query rows of every task. */
interface SetSizes {
  readonly support: number;
  readonly query: number;
}
const EVEN: SetSizes = { support: ROWS_PER_SET, query: ROWS_PER_SET };

/** Tasks whose rows share the adgroup's id and attributes. */
function adgroupStore(
  generated: string,
  attributes: readonly string[],
  { support, query }: SetSizes = EVEN,
): TaskStore {
  const store = tinyTaskStore({
    taskCount: TASK_COUNT,
    categoryRowCounts: [TASK_COUNT, TASK_COUNT, 4],
    bags: [{ rowCount: 8, lengthMax: 3 }],
    numberCount: 1,
    counts: true,
  });
  const rowCount = support + query;
  const cut = (task: TaskRows): TaskRows => {
    const constant = (values: Int32Array, length: number): Int32Array =>
      Int32Array.from({ length: rowCount * length }, (_, place) => values[place % length] ?? 0);
    const { features } = store.manifest;
    const placeIn = (kind: EncodedFeature['kind'], name: string): number =>
      features.filter((feature) => feature.kind === kind).findIndex((f) => f.name === name);
    const long = lengthened(task, rowCount);
    return {
      ...long,
      rowCount,
      supportRowCount: support,
      categoryIds: long.categoryIds.map((ids, place) => {
        if (place === placeIn('category', generated))
          return new Int32Array(rowCount).fill(task.taskIndex);
        return attributes.some((name) => placeIn('category', name) === place)
          ? constant(ids, 1)
          : ids;
      }),
      bagIds: long.bagIds.map((ids) => constant(ids, 3)),
    };
  };
  return {
    ...store,
    digest: JSON.stringify([generated, attributes, support, query]),
    readTasks: async (indices) => (await store.readTasks(indices)).map(cut),
  };
}

/** Repeats the rows until there are enough. */
function lengthened(task: TaskRows, rowCount: number): TaskRows {
  const ints = (values: Int32Array, length = 1): Int32Array =>
    Int32Array.from(
      { length: rowCount * length },
      (_, place) => values[place % values.length] ?? 0,
    );
  const floats = (values: Float32Array): Float32Array =>
    Float32Array.from({ length: rowCount }, (_, place) => values[place % values.length] ?? 0);
  return {
    ...task,
    categoryIds: task.categoryIds.map((ids) => ints(ids)),
    bagIds: task.bagIds.map((ids) => ints(ids, 3)),
    numbers: task.numbers.map(floats),
    clicks: floats(task.clicks),
    impressions: floats(task.impressions),
  };
}

const executor = openedOnce(() =>
  createExecutor({ openStore: () => Promise.resolve(current.store) }),
);
let current: JobCase;

/** Attributes of a task's first row, in the order of the names: factors and linear weights. */
function attributesOf(task: TaskRows, names: readonly string[]): number[] {
  const { meta, spec } = current;
  const rowOf = (table: string, id: number): number[] => {
    const { width, values } = meta.tables.get(table)!;
    return [...values.subarray(id * width, (id + 1) * width)];
  };
  return names.flatMap((name) => {
    const place = spec.categoryFeatures.indexOf(name);
    if (place >= 0) return rowOf(name, task.categoryIds[place]![0]!);
    const members = [...task.bagIds[0]!.subarray(0, 3)].filter((id) => id >= 0);
    const rows = members.map((id) => rowOf(name, id));
    return Array.from({ length: spec.tableRowWidth }, (_, column) =>
      rows.length === 0 ? 0 : rows.reduce((sum, row) => sum + row[column]!, 0) / rows.length,
    );
  });
}

/** c v l_a + (1 - c) w l_b of a task, and its gradient with respect to the generator. */
function outerLoss(
  task: TaskRows,
  names: readonly string[],
  generator: Float64Array,
  [warm, cold]: readonly [number, number],
): { loss: number; gradient: Float64Array } {
  const { spec, meta } = current;
  const tape = new ScalarTape();
  const inputs = attributesOf(task, names);
  const width = spec.tableRowWidth;
  const weights = Array.from(generator, (value) => tape.constant(value));
  const phi = Array.from({ length: width }, (_, column) => {
    const terms = inputs.map((x, place) => tape.scale(weights[place * width + column]!, x));
    return tape.scale(tanhOf({ tape }, tape.add(...terms)), 1 / 5);
  });
  const key = `${spec.options.generated}/${task.taskIndex}`;
  const lossAt = (span: RowSpan, embedding: number[]): number => {
    const leaves = new Leaves(tape, denseValuesOf(meta), meta, new Map([[key, embedding]]));
    return lossNode(spec, leaves, task, span);
  };
  const coldLoss = lossAt(supportOf(task), phi);
  const slopesBefore = tape.gradientNodes(coldLoss, phi);
  const moved = phi.map((node, place) =>
    tape.add(node, tape.scale(slopesBefore[place]!, -innerRate)),
  );
  const outer = tape.add(
    tape.scale(coldLoss, coldShare * cold),
    tape.scale(lossAt(queryOf(task), moved), (1 - coldShare) * warm),
  );
  const slopes = tape.gradient(outer);
  return {
    loss: tape.valueOf(outer),
    gradient: Float64Array.from(weights, (node) => slopes[node]!),
  };
}

const models: [string, string, string[], Record<string, unknown>][] = [
  ['the first category of a DeepFM', 'category0', ['category2', 'bag0'], small],
  ['a category between others', 'category1', ['category2', 'bag0'], small],
  ['an MLP', 'category0', ['bag0'], { ...small, kind: 'mlp' }],
  [
    'inner products by field, and outer ones',
    'category1',
    ['category2'],
    { ...small, kind: 'pnn', interactions: 'by-field' },
  ],
  [
    'a DeepFM without linear weights, its interactions by field',
    'category1',
    ['category2'],
    {
      ...{ ...small, linear: false, interactions: 'by-field' },
      factorisedFields: ['category0', 'category1', 'bag0'],
    },
  ],
  [
    'logistic regression',
    'category0',
    ['category2'],
    { kind: 'logistic', hiddenWidths: [], personal: [] },
  ],
];

test.each(models)('%s', (_name, generated, attributes, model) =>
  expectRefereesGradient(attributes, adgroupStore(generated, attributes), { ...model, generated }),
);

// 3 rows are padded to 8 and 9 rows to 16.
test.each([
  { support: 3, query: 9 },
  { support: 9, query: 3 },
])('$support support and $query query rows', (sizes) => {
  const store = adgroupStore('category0', ['bag0'], sizes);
  return expectRefereesGradient(['bag0'], store, { ...small, generated: 'category0' });
});

/** Compares the job's gradient with the referee's, and that with differences of the outer loss. */
async function expectRefereesGradient(
  attributes: readonly string[],
  store: TaskStore,
  model: Record<string, unknown>,
): Promise<void> {
  const method = methodOf({ kind: 'meta-embedding', attributes, innerRate, coldShare });
  current = jobCaseOf(store, model, 5, method);
  const indices = [4, 3, 2, 1, 0];
  const tasks = await current.store.readTasks(indices);
  const generator = Float64Array.from(current.meta.dense.get('generator.weight')!.values);
  const lossAt = (at: Float64Array): { loss: number; gradient: Float64Array } => {
    const losses = tasks.map((task, place) =>
      outerLoss(task, attributes, at, [weights[place]!, coldWeights[place]!]),
    );
    return {
      loss: losses.reduce((sum, { loss }) => sum + loss, 0),
      gradient: at.map((_, i) => losses.reduce((sum, l) => sum + l.gradient[i]!, 0)),
    };
  };
  const expected = lossAt(generator).gradient;
  const h = 1e-5;
  // Every fifth element: the elements are equivalent, and each needs two evaluations of the whole
  // loss.
  for (let i = 0; i < generator.length; i += 5) {
    const at = (shift: number): number =>
      lossAt(generator.map((value, j) => (j === i ? value + shift : value))).loss;
    expect((at(h) - at(-h)) / (2 * h)).toBeCloseTo(expected[i]!, 7);
  }

  const found = await runJob(executor, current, indices, {
    kind: 'gradient',
    method,
    taskWeights: weights,
    coldTaskWeights: coldWeights,
  });
  expect([...found.tensors.keys()].sort()).toEqual(['generator.weight', 'rows']);
  expect(found.tensors.get('rows')?.length).toBe(0);
  expect(relativeDifference(found.tensors.get('generator.weight')!, expected)).toBeLessThan(2e-4);
}

// Logistic regression without bias or attribute weights: the logit is phi alone. Support and
// query have one row each; the support row is clicked and the query row is not.
test('the worked numbers of one row each', async () => {
  const method = methodOf({
    kind: 'meta-embedding',
    attributes: ['category2'],
    innerRate: 2,
    coldShare: 0.1,
  });
  const store = adgroupStore('category0', ['category2']);
  const oneRowEach = (task: TaskRows): TaskRows => ({
    ...task,
    rowCount: 2,
    supportRowCount: 1,
    categoryIds: task.categoryIds.map((ids) => ids.slice(0, 2)),
    bagIds: [new Int32Array(6).fill(-1)],
    numbers: [new Float32Array(2)],
    clicks: Float32Array.of(1, 0),
    impressions: Float32Array.of(1, 1),
  });
  current = jobCaseOf(
    {
      ...store,
      digest: 'worked',
      readTasks: async (indices) => (await store.readTasks(indices)).map(oneRowEach),
    },
    { kind: 'logistic', hiddenWidths: [], personal: [], generated: 'category0' },
    5,
    method,
  );
  const { dense, tables } = current.meta;
  for (const { values } of [...dense.values(), ...tables.values()]) values.fill(0);
  // tanh(0.5 * W) = 0.5, so phi = 0.1; the attribute's own weight would enter the logit too.
  tables.get('category2')!.values.fill(0.5);
  dense.get('bias')!.values.fill(-0.5);
  dense.get('generator.weight')!.values.fill(2 * Math.atanh(0.5));
  const { tensors } = await runJob(executor, current, [0], {
    ...{ kind: 'gradient', method },
    ...{ taskWeights: [1], coldTaskWeights: [1] },
  });
  // g_a = sigmoid(0.1) - 1 = -0.475021, H_a = 0.249376; phi' = 0.1 + 2 * 0.475021 = 1.050042
  // g_b = sigmoid(1.050042) = 0.740783
  // 0.1 * -0.475021 + 0.9 * (1 - 2 * 0.249376) * 0.740783 = 0.286682
  // d phi / d W = (1 - 0.5^2) / 5 * 0.5
  expect(tensors.get('generator.weight')![0]! / ((0.75 / 5) * 0.5)).toBeCloseTo(0.286682, 5);
});
