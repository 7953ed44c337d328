// Every gradient and logit of the executor against the plain float64 referee, which is itself
// checked against central finite differences.

import { rich } from './gradient-expectations.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/job/create-executor.js';
import {
  type CaseWork,
  jobCaseOf,
  relativeDifference,
  runJob,
  type JobCase,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore, type TinyStoreOptions } from '../fixtures/stores/tiny-task-store.js';
import {
  adapted,
  allOf,
  denseValuesOf,
  logitsAt,
  queryOf,
  supportOf,
  taskLoss,
  weightedSum,
  type Gradient,
} from './referee.js';

const small = { embeddingWidth: 3, hiddenWidths: [5, 4] };
const embedded = { ...small, adgroupEmbedding: true };
const blocks = ['bias', 'numbers', 'adgroupEmbedding', 'layer0', 'layer1', 'output'];

const cases: [string, TinyStoreOptions, unknown][] = [
  ['bias', rich, { ...small, personal: ['bias'] }],
  ['no personal block', rich, { ...small, personal: [] }],
  ['output and bias', rich, { ...small, personal: ['bias', 'output'] }],
  ['a middle layer', rich, { ...small, personal: ['layer1'] }],
  ['the first layer', rich, { ...small, personal: ['layer0'] }],
  ['numbers', rich, { ...small, personal: ['numbers'] }],
  ['adgroup embedding', rich, { ...embedded, personal: ['adgroupEmbedding'] }],
  ['embedding and first layer', rich, { ...embedded, personal: ['adgroupEmbedding', 'layer0'] }],
  [
    'embedding, middle layer, output, bias',
    rich,
    { ...embedded, personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'] },
  ],
  ['everything', rich, { ...embedded, personal: blocks }],
  ['an MLP', rich, { ...small, kind: 'mlp', personal: ['bias', 'output'] }],
  ['an MLP with everything personal', rich, { ...embedded, kind: 'mlp', personal: blocks }],
  [
    'factorisation and output on fields',
    rich,
    { ...small, hiddenWidths: [], personal: ['output'] },
  ],
  [
    'logistic regression',
    rich,
    { kind: 'logistic', hiddenWidths: [], personal: ['bias', 'numbers'] },
  ],
  [
    'labels, categories only',
    { taskCount: 4, numberCount: 0 },
    { ...small, personal: ['bias', 'output'] },
  ],
  [
    'numbers only',
    { taskCount: 4, categoryRowCounts: [], numberCount: 3 },
    { ...small, personal: ['numbers', 'bias'] },
  ],
  [
    'bags only',
    { taskCount: 4, categoryRowCounts: [], numberCount: 0, bags: [{ rowCount: 4, lengthMax: 2 }] },
    { ...small, personal: ['bias'] },
  ],
  [
    'one row in every set',
    { taskCount: 3, supportRowCountMax: 1, queryRowCountMax: 1 },
    { ...embedded, personal: blocks },
  ],
  ['values', { ...rich, losses: ['squared'] }, { ...small, personal: ['bias', 'output'] }],
  [
    'values beside clicks',
    { ...rich, losses: ['squared', 'binary'], hasEmptySets: true },
    { ...embedded, personal: blocks },
  ],
  [
    'tasks without support rows, tasks without query rows',
    { ...rich, hasEmptySets: true },
    { ...embedded, personal: blocks },
  ],
];

const weights = [0.1, 0.4, 0.2, 0.05, 0.25];
const innerSteps = 3;
const innerRate = 0.2;

let executor: LocalExecutor;
let current: JobCase;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(current.store) });
});
afterAll(() => executor.close());

function expectGradient(
  found: ReadonlyMap<string, Float32Array>,
  expected: Gradient,
  { spec }: JobCase,
  tasks: readonly TaskRows[],
): void {
  for (const { name } of spec.variables)
    expect(relativeDifference(found.get(name)!, expected.get(name)!), name).toBeLessThan(3e-5);
  const layout = rowPackLayoutOf(tasks);
  const rows: number[] = [];
  for (const [place, { name }] of spec.tables.entries())
    for (const id of layout.idsByTable[place]!)
      rows.push(...(expected.get(`${name}/${id}`) ?? new Float64Array(spec.tableRowWidth)));
  expect(relativeDifference(found.get('rows')!, rows), 'rows').toBeLessThan(3e-5);
}

describe.each(cases)('%s', (_, options, model) => {
  const setUp = async (): Promise<{
    tasks: TaskRows[];
    indices: number[];
    taskWeights: number[];
  }> => {
    // The digest of a store depends only on its seed, so each case gets its own seed.
    current = jobCaseOf(
      { ...tinyTaskStore(options), digest: JSON.stringify([options, model]) },
      model,
    );
    const indices = current.store.tasks.map(({ taskIndex }) => taskIndex).reverse();
    const tasks = await current.store.readTasks(indices);
    return { tasks, indices, taskWeights: weights.slice(0, tasks.length) };
  };

  test.each([0, 0.3])('first-order MAML with a cold share of %s', async (coldShare) => {
    const { tasks, indices, taskWeights } = await setUp();
    const { spec, meta } = current;
    const coldTaskWeights = taskWeights.map((_, place) => 0.1 + 0.05 * place);
    const work: CaseWork = {
      kind: 'gradient',
      method: methodOf({ kind: 'fomaml', innerSteps, innerRate, coldShare }),
      taskWeights,
      coldTaskWeights,
    };
    const found = await runJob(executor, current, indices, work);
    const parts = tasks.map((task) => {
      const phi = adapted(spec, meta, task, innerSteps, innerRate);
      return taskLoss(spec, meta, phi, task, queryOf(task));
    });
    const lossBefore = tasks.map(
      (t) => taskLoss(spec, meta, denseValuesOf(meta), t, supportOf(t)).loss,
    );
    const dot = (losses: number[]): number =>
      losses.reduce((s, l, i) => s + l * taskWeights[i]!, 0);
    expect(found.weightedQueryLoss).toBeCloseTo(dot(parts.map((p) => p.loss)), 5);
    expect(found.weightedSupportLoss).toBeCloseTo(dot(lossBefore), 5);
    expect(found.queryRowCount).toBe(tasks.reduce((s, t) => s + t.rowCount - t.supportRowCount, 0));
    const cold = tasks.map((t) => taskLoss(spec, meta, denseValuesOf(meta), t, allOf(t)).gradient);
    expectGradient(
      found.tensors,
      weightedSum(
        [...parts.map((p) => p.gradient), ...cold],
        [
          ...taskWeights.map((w) => w * (1 - coldShare)),
          ...coldTaskWeights.map((w) => w * coldShare),
        ],
      ),
      current,
      tasks,
    );
  });

  test('the global model is plain backpropagation over all rows', async () => {
    const { tasks, indices, taskWeights } = await setUp();
    const { spec, meta } = current;
    const work: CaseWork = { kind: 'gradient', method: { kind: 'global' }, taskWeights };
    const found = await runJob(executor, current, indices, work);
    const parts = tasks.map((t) => taskLoss(spec, meta, denseValuesOf(meta), t, allOf(t)));
    expect(found.weightedQueryLoss).toBeCloseTo(
      parts.reduce((sum, { loss }, i) => sum + loss * taskWeights[i]!, 0),
      5,
    );
    expectGradient(
      found.tensors,
      weightedSum(
        parts.map((p) => p.gradient),
        taskWeights,
      ),
      current,
      tasks,
    );
  });

  test.each(['query', 'support'] as const)('logits of the %s rows over a grid', async (rows) => {
    const { tasks, indices } = await setUp();
    const { spec, meta } = current;
    const adaptations = [
      { innerRate: 0.5, innerSteps: 2 },
      { innerRate: 0.1, innerSteps: 0 },
      { innerRate: 0.5, innerSteps: 1 },
      { innerRate: 0.1, innerSteps: 3 },
    ];
    const found = await runJob(executor, current, indices, {
      kind: 'predict',
      method: { kind: 'global' },
      adaptations,
      rows,
    });
    const expected = adaptations.flatMap((setting) =>
      tasks.flatMap((task) => {
        const phi = adapted(spec, meta, task, setting.innerSteps, setting.innerRate);
        return logitsAt(spec, meta, phi, task, rows === 'query' ? queryOf(task) : supportOf(task));
      }),
    );
    expect(relativeDifference(found.tensors.get('logits')!, expected)).toBeLessThan(2e-5);
  });
});

test('the referee agrees with central finite differences', async () => {
  const jobCase = jobCaseOf(tinyTaskStore(rich), { ...embedded, personal: blocks });
  const { spec, meta, store } = jobCase;
  const [task] = await store.readTasks([2]);
  const dense = denseValuesOf(meta);
  const { gradient } = taskLoss(spec, meta, dense, task!, queryOf(task!));
  const step = 1e-6;
  for (const { name } of spec.variables) {
    const values = dense.get(name)!;
    const lossWith = (index: number, offset: number): number => {
      const moved = new Map(dense).set(
        name,
        values.map((v, i) => (i === index ? v + offset : v)),
      );
      return taskLoss(spec, meta, moved, task!, queryOf(task!)).loss;
    };
    const differences = Array.from(
      values,
      (_, i) => (lossWith(i, step) - lossWith(i, -step)) / (2 * step),
    );
    expect(relativeDifference(gradient.get(name)!, differences), name).toBeLessThan(1e-6);
  }
});
