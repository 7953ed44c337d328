// Gradients, losses and logits of the executor against the float64 referee, for every model with every kind of personal
// block, and for stores with few kinds of features, values, empty sets and single rows. The referee itself is
// checked against central finite differences.

import { describe, expect, test, onTestFinished } from 'vitest';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  jobCaseOf,
  relativeDifference,
  runJob,
  type GradientCaseWork,
  type JobCase,
  type NamedOutput,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore, type TinyStoreOptions } from '../fixtures/stores/tiny-task-store.js';
import { expectGradient, rich } from './gradient-expectations.js';
import { allOf as allTasksOf, jobRunner } from './job-runner.js';
import {
  adapted,
  allOf,
  denseValuesOf,
  logitsAt,
  queryOf,
  supportOf,
  taskLoss,
  weightedSum,
  type Values,
} from './referee.js';
import { loadPlugins } from '../../shared/plugins/load-plugins.js';
import { adaptedLoss } from './second-order-referee.js';

// Second order is that of an example plugin, and of the generator of Meta-Embedding.
await loadPlugins(['infra/examples/methods/maml.js']);

const small = { embeddingWidth: 3, hiddenWidths: [5, 4] };
const embedded = { ...small, adgroupEmbedding: true };
const blocks = ['bias', 'numbers', 'adgroupEmbedding', 'layer0', 'layer1', 'output'];
const everything = { ...embedded, personal: blocks };
const some = ['category1', 'bag0', 'number0', 'number1'];
const fm = { kind: 'fm', embeddingWidth: 3, hiddenWidths: [] };
const byField = { ...small, kind: 'deepfm', interactions: 'by-field' };
const dcn = { ...small, kind: 'dcn-v2' };
const lowRank = { ...dcn, crossTower: 'stacked', crossRank: 2, crossLayers: 2 };

const models: readonly [string, object][] = [
  ['no personal block', { ...small, personal: [] }],
  ['bias', { ...small, personal: ['bias'] }],
  ['numbers', { ...small, personal: ['numbers'] }],
  ['a middle layer', { ...small, personal: ['layer1'] }],
  ['the first layer', { ...small, personal: ['layer0'] }],
  ['adgroup embedding', { ...embedded, personal: ['adgroupEmbedding'] }],
  ['everything', everything],
  ['no hidden layers', { ...small, hiddenWidths: [], personal: ['output'] }],
  ['no linear weights', { ...small, linear: false, personal: ['bias', 'output'] }],
  ['some fields', { ...small, factorisedFields: some, personal: ['layer1'] }],
  ['by field', { ...byField, personal: ['bias', 'output'] }],
  ['by field, no hidden layers', { ...byField, hiddenWidths: [], personal: ['output'] }],
  [
    'by field, some fields, no linear weights, padding',
    { ...byField, linear: false, padding: 'trained', factorisedFields: ['category0', 'bag1'] },
  ],
  [
    'by field, some fields, everything',
    {
      ...{ ...everything, interactions: 'by-field' },
      factorisedFields: ['adgroupEmbedding', 'number1', 'bag0'],
    },
  ],
  ['logistic', { kind: 'logistic', hiddenWidths: [], personal: ['bias', 'numbers'] }],
  ['logistic with trained padding', { kind: 'logistic', hiddenWidths: [], padding: 'trained' }],
  ['mlp with trained padding', { ...small, kind: 'mlp', padding: 'trained', personal: ['layer0'] }],
  ['mlp, everything', { ...everything, kind: 'mlp' }],
  ['fm, numbers', { ...fm, personal: ['numbers'] }],
  ['fm, embedding', { ...fm, adgroupEmbedding: true, personal: ['adgroupEmbedding', 'bias'] }],
  ['fm of some fields, no linear weights', { ...fm, linear: false, factorisedFields: some }],
  ['fm by field', { ...fm, interactions: 'by-field', personal: ['output', 'bias'] }],
  [
    'fm by some fields, no linear weights, everything',
    {
      ...{ ...fm, linear: false, adgroupEmbedding: true, interactions: 'by-field' },
      ...{ factorisedFields: some, personal: ['bias', 'numbers', 'adgroupEmbedding', 'output'] },
    },
  ],
  ['fwfm', { ...fm, kind: 'fwfm', personal: ['output'] }],
  [
    'fwfm of some fields, no linear weights, everything',
    {
      ...{ ...fm, kind: 'fwfm', linear: false, adgroupEmbedding: true },
      factorisedFields: ['category0', 'bag1', 'number1', 'adgroupEmbedding'],
      personal: ['bias', 'numbers', 'adgroupEmbedding', 'output'],
    },
  ],
  [
    'wide-deep with wide fields, first layer',
    { ...small, kind: 'wide-deep', wideFields: ['category1', 'bag0'], personal: ['layer0'] },
  ],
  [
    'wide-deep with wide fields, everything',
    { ...everything, kind: 'wide-deep', wideFields: ['category0', 'bag1'] },
  ],
  ...['ipnn', 'opnn', 'pnn'].flatMap((kind): [string, object][] => [
    [`${kind}, everything`, { ...everything, kind, linear: true }],
    [
      `${kind} of some fields`,
      {
        ...{ ...embedded, hiddenWidths: [], kind },
        factorisedFields: ['category0', 'bag1', 'number1', 'adgroupEmbedding'],
        personal: ['numbers', 'adgroupEmbedding', 'output'],
      },
    ],
  ]),
  ['ipnn by field', { ...byField, kind: 'ipnn', personal: ['layer0'] }],
  [
    'pnn by some fields, everything',
    { ...everything, kind: 'pnn', interactions: 'by-field', factorisedFields: some },
  ],
  ['pnn, numbers', { ...small, kind: 'pnn', personal: ['numbers'] }],
  ['pnn, embedding', { ...embedded, kind: 'pnn', personal: ['adgroupEmbedding'] }],
  ['dcn-v2, a middle cross layer', { ...dcn, personal: ['cross1'] }],
  [
    'dcn-v2, everything',
    { ...dcn, ...everything, linear: true, personal: [...blocks, 'cross0', 'cross1', 'cross2'] },
  ],
  ['dcn-v2 without hidden layers', { ...dcn, hiddenWidths: [], personal: ['cross2'] }],
  [
    'low-rank, stacked dcn-v2, embedding',
    { ...lowRank, adgroupEmbedding: true, personal: ['adgroupEmbedding'], linear: true },
  ],
  [
    'low-rank, stacked dcn-v2, everything',
    { ...lowRank, ...everything, linear: true, personal: [...blocks, 'cross0', 'cross1'] },
  ],
];

const cases: readonly [string, TinyStoreOptions, object][] = [
  ...models.map(([name, model]): [string, TinyStoreOptions, object] => [name, rich, model]),
  ['categories only', { taskCount: 4, numberCount: 0 }, { ...small, personal: ['bias', 'output'] }],
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
    everything,
  ],
  [
    'values next to clicks, tasks without support rows, tasks without query rows',
    { ...rich, losses: ['squared', 'binary'], hasEmptySets: true },
    everything,
  ],
];

const weights = [0.1, 0.4, 0.2, 0.05, 0.25];
const coldWeights = [0.1, 0.15, 0.2, 0.25, 0.3];

/** An inner loop; without one, the global model. */
interface Loop {
  readonly order: 'first' | 'second';
  readonly innerSteps: number;
  readonly innerRate: number;
  readonly coldShare: number;
}
const maml: Loop = { order: 'second', innerSteps: 2, innerRate: 0.3, coldShare: 0.3 };
const fomaml: Loop = { ...maml, order: 'first', innerSteps: 3 };

const jobs = jobRunner();

function workOf(loop: Loop | null, taskCount: number): GradientCaseWork {
  const kind = loop === null ? 'global' : loop.order === 'first' ? 'fomaml' : 'maml';
  const { innerSteps, innerRate, coldShare } = loop ?? {};
  return {
    kind: 'gradient',
    method: methodOf(loop === null ? { kind } : { kind, innerSteps, innerRate, coldShare }),
    taskWeights: weights.slice(0, taskCount),
    coldTaskWeights: coldWeights.slice(0, taskCount),
  };
}

/** The losses and the gradient of a job by the referee. */
function expectOutput(
  jobCase: JobCase,
  found: NamedOutput,
  loop: Loop | null,
  tasks: readonly TaskRows[],
): void {
  const { spec, meta } = jobCase;
  const dense = denseValuesOf(meta);
  const coldShare = loop?.coldShare ?? 0;
  const cold = tasks.map((task) => taskLoss(spec, meta, dense, task, allOf(task)));
  const warm = loop === null ? cold : tasks.map((task) => adaptedLoss(spec, meta, task, loop));
  const weighted = (losses: readonly { readonly loss: number }[]): number =>
    losses.reduce((sum, { loss }, place) => sum + loss * weights[place]!, 0);
  expect(found.weightedQueryLoss).toBeCloseTo(weighted(warm), 5);
  if (loop !== null) {
    const before = tasks.map((task) => taskLoss(spec, meta, dense, task, supportOf(task)));
    expect(found.weightedSupportLoss).toBeCloseTo(weighted(before), 5);
  }
  const expected = weightedSum(
    [...warm, ...cold].map(({ gradient }) => gradient),
    [
      ...tasks.map((_, place) => weights[place]! * (1 - coldShare)),
      ...tasks.map((_, place) => coldWeights[place]! * coldShare),
    ],
  );
  expectGradient(jobCase, found, expected, tasks);
}

async function expectGradientOf(jobCase: JobCase, loop: Loop | null): Promise<void> {
  const indices = allTasksOf(jobCase.store).reverse();
  const tasks = await jobCase.store.readTasks(indices);
  const found = await jobs.run(jobCase, workOf(loop, tasks.length), indices);
  expectOutput(jobCase, found, loop, tasks);
}

async function expectLogits(
  jobCase: JobCase,
  rows: 'query' | 'support',
  adaptations: readonly { readonly innerRate: number; readonly innerSteps: number }[],
): Promise<void> {
  const { spec, meta, store } = jobCase;
  const method = methodOf({ kind: 'global' });
  const { tensors } = await jobs.run(jobCase, {
    ...{ kind: 'predict', method, rows },
    adaptations: [...adaptations],
  });
  const tasks = await store.readTasks(allTasksOf(store));
  const expected = adaptations.flatMap(({ innerRate, innerSteps }) =>
    tasks.flatMap((task) => {
      const phi = adapted(spec, meta, task, innerSteps, innerRate);
      return logitsAt(spec, meta, phi, task, rows === 'query' ? queryOf(task) : supportOf(task));
    }),
  );
  expect(relativeDifference(tensors.get('logits')!, expected)).toBeLessThan(3e-5);
}

describe.each(cases.map((each, place) => [...each, place] as const))(
  '%s',
  (_, options, model, place) => {
    const jobCase = jobCaseOf(tinyTaskStore(options), model);

    // Second order differentiates the steps of all blocks at once, so it takes the models in which most blocks step.
    if (jobCase.model.personal.length > 2)
      test('second order', () => expectGradientOf(jobCase, maml));

    // By turns, since each is one computation for all models.
    const [name, loop] = place % 2 === 0 ? ['first order', fomaml] : ['the global model', null];
    test(name, () => expectGradientOf(jobCase, loop));

    test('logits before and after a step', () =>
      expectLogits(jobCase, 'query', [
        { innerRate: 0.5, innerSteps: 1 },
        { innerRate: 0.1, innerSteps: 0 },
      ]));
  },
);

describe('with everything personal', () => {
  const jobCase = jobCaseOf(tinyTaskStore(rich), everything);

  test.each([
    { ...fomaml, innerSteps: 5, coldShare: 0 },
    { ...maml, innerSteps: 1, coldShare: 0 },
    { ...maml, innerSteps: 5, coldShare: 0 },
  ])('$innerSteps steps of $order order', (loop) => expectGradientOf(jobCase, loop));

  test('logits of the support rows over a grid', () =>
    expectLogits(jobCase, 'support', [
      { innerRate: 0.5, innerSteps: 2 },
      { innerRate: 0.1, innerSteps: 0 },
      { innerRate: 0.5, innerSteps: 1 },
      { innerRate: 0.2, innerSteps: 7 },
    ]));

  test('a job leaves no tensor behind, and gives the same bytes again', async () => {
    const executor = await createExecutor({ openStore: () => Promise.resolve(jobCase.store) });
    const indices = allTasksOf(jobCase.store);
    const work = workOf(maml, indices.length);
    const first = await runJob(executor, jobCase, indices, work);
    const { numTensors } = executor.engine.tf.memory();
    const second = await runJob(executor, jobCase, indices, work);
    expect(executor.engine.tf.memory().numTensors).toBe(numTensors);
    expect(second.bytes).toEqual(first.bytes);
    await executor.close();
  });
});

describe('the referee agrees with central finite differences', () => {
  const jobCase = jobCaseOf(tinyTaskStore(rich), {
    ...embedded,
    personal: ['adgroupEmbedding', 'layer1', 'bias'],
  });
  const { spec, meta, store } = jobCase;
  /** Elements of a variable are equivalent, and each needs two evaluations of the whole loss. */
  const STRIDE = 7;

  // The steps are those of the first-order referee, which shares no differentiation with the second-order one.
  test.each([0, 1, 5])('of the loss after %i steps', async (innerSteps) => {
    const innerRate = 0.4;
    const [task] = (await store.readTasks([2])) as [TaskRows];
    const lossAt = (dense: Values): number => {
      const phi = adapted(spec, meta, task, innerSteps, innerRate, dense);
      return taskLoss(spec, meta, phi, task, queryOf(task)).loss;
    };
    const { gradient } = adaptedLoss(spec, meta, task, { innerSteps, innerRate });
    const dense = denseValuesOf(meta);
    const plain = taskLoss(spec, meta, dense, task, queryOf(task)).gradient;
    const step = 1e-5;
    for (const { name } of spec.variables) {
      const values = dense.get(name)!;
      const chosen = [...values.keys()].filter((index) => index % STRIDE === 0);
      const lossWith = (index: number, offset: number): number =>
        lossAt(new Map(dense).set(name, values.with(index, values[index]! + offset)));
      const differences = chosen.map(
        (index) => (lossWith(index, step) - lossWith(index, -step)) / (2 * step),
      );
      const found = chosen.map((index) => gradient.get(name)![index]!);
      expect(relativeDifference(found, differences), name).toBeLessThan(1e-6);
      if (innerSteps === 0) expect(gradient.get(name)).toEqual(plain.get(name));
    }
  });
});

// This is the last test, because the library has one backend at a time.
test('a portable backend has the same gradient', async () => {
  const jobCase = jobCaseOf(tinyTaskStore(rich), everything);
  const portable = await createExecutor({
    openStore: () => Promise.resolve(jobCase.store),
    backend: 'cpu',
  });
  onTestFinished(() => portable.close());
  const indices = allTasksOf(jobCase.store);
  const tasks = await jobCase.store.readTasks(indices);
  const found = await runJob(portable, jobCase, indices, workOf(maml, tasks.length));
  expectOutput(jobCase, found, maml, tasks);
});
