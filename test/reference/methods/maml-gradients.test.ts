// Second-order MAML against the float64 referee, which is itself checked against
// central finite differences of the outer loss.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../../worker/compute/job/create-executor.js';
import {
  type CaseWork,
  jobCaseOf,
  relativeDifference,
  runJob,
  type JobCase,
  type NamedOutput,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore, type TinyStoreOptions } from '../../fixtures/stores/tiny-task-store.js';
import { expectGradient, rich } from '../gradient-expectations.js';
import {
  adapted,
  allOf,
  denseValuesOf,
  queryOf,
  supportOf,
  taskLoss,
  weightedSum,
  type Gradient,
  type Values,
} from '../referee.js';
import { adaptedLoss } from '../second-order-referee.js';

const small = { embeddingWidth: 3, hiddenWidths: [5, 4] };
const embedded = { ...small, adgroupEmbedding: true };
const blocks = ['bias', 'numbers', 'adgroupEmbedding', 'layer0', 'layer1', 'output'];
const logistic = { kind: 'logistic', hiddenWidths: [], personal: ['bias', 'numbers'] };

const cases: [string, TinyStoreOptions, unknown][] = [
  ['bias', rich, { ...small, personal: ['bias'] }],
  ['no personal block', rich, { ...small, personal: [] }],
  ['output and bias', rich, { ...small, personal: ['bias', 'output'] }],
  ['a middle layer', rich, { ...small, personal: ['layer1'] }],
  ['the first layer', rich, { ...small, personal: ['layer0'] }],
  ['numbers', rich, { ...small, personal: ['numbers'] }],
  ['adgroup embedding', rich, { ...embedded, personal: ['adgroupEmbedding'] }],
  ['everything', rich, { ...embedded, personal: blocks }],
  ['an MLP', rich, { ...small, kind: 'mlp', personal: ['bias', 'output'] }],
  ['an MLP with everything personal', rich, { ...embedded, kind: 'mlp', personal: blocks }],
  ['logistic regression', rich, logistic],
  [
    'numbers only',
    { taskCount: 4, categoryRowCounts: [], numberCount: 3 },
    { ...small, personal: ['numbers', 'bias'] },
  ],
  [
    'values beside clicks',
    { ...rich, losses: ['squared', 'binary'] },
    { ...small, personal: ['bias', 'output'] },
  ],
  [
    'one row in every set',
    { taskCount: 3, supportRowCountMax: 1, queryRowCountMax: 1 },
    { ...embedded, personal: blocks },
  ],
];

const weights = [0.1, 0.4, 0.2, 0.05, 0.25];
const coldWeights = [0.1, 0.15, 0.2, 0.25, 0.3];
const innerRate = 0.4;
const stepCounts = [1, 5];

let executor: LocalExecutor;
let current: JobCase;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(current.store) });
});
afterAll(() => executor.close());

interface Setting {
  readonly innerSteps: number;
  readonly coldShare?: number;
}

function workOf({ innerSteps, coldShare = 0 }: Setting, taskCount: number): CaseWork {
  return {
    kind: 'gradient',
    method: methodOf({ kind: 'maml', innerSteps, innerRate, coldShare }),
    taskWeights: weights.slice(0, taskCount),
    coldTaskWeights: coldWeights.slice(0, taskCount),
  };
}

async function computed(setting: Setting): Promise<{ found: NamedOutput; tasks: TaskRows[] }> {
  const indices = current.store.tasks.map(({ taskIndex }) => taskIndex).reverse();
  const tasks = await current.store.readTasks(indices);
  const found = await runJob(executor, current, indices, workOf(setting, tasks.length));
  return { found, tasks };
}

function select(
  options: TinyStoreOptions,
  model: unknown,
  wrap = (store: TaskStore) => store,
): void {
  const store = wrap(tinyTaskStore(options));
  // The executor keeps stores by digest.
  current = jobCaseOf({ ...store, digest: JSON.stringify([options, model, wrap.name]) }, model);
}

function expectedOf(tasks: readonly TaskRows[], { innerSteps, coldShare = 0 }: Setting): Gradient {
  const { spec, meta } = current;
  const warm = tasks.map(
    (task) => adaptedLoss(spec, meta, task, { innerSteps, innerRate }).gradient,
  );
  const cold = tasks.map((t) => taskLoss(spec, meta, denseValuesOf(meta), t, allOf(t)).gradient);
  return weightedSum(
    [...warm, ...cold],
    [
      ...tasks.map((_, place) => weights[place]! * (1 - coldShare)),
      ...tasks.map((_, place) => coldWeights[place]! * coldShare),
    ],
  );
}

describe.each(cases)('%s', (_, options, model) => {
  test.each(stepCounts)('%i inner steps', async (innerSteps) => {
    select(options, model);
    const setting = { innerSteps };
    const { found, tasks } = await computed(setting);
    expectGradient(current, found, expectedOf(tasks, setting), tasks);
    const { spec, meta } = current;
    const dot = (losses: number[]): number => losses.reduce((s, l, i) => s + l * weights[i]!, 0);
    const lossAfter = tasks.map((t) => adaptedLoss(spec, meta, t, { innerSteps, innerRate }).loss);
    const lossBefore = tasks.map(
      (t) => taskLoss(spec, meta, denseValuesOf(meta), t, supportOf(t)).loss,
    );
    expect(found.weightedQueryLoss).toBeCloseTo(dot(lossAfter), 5);
    expect(found.weightedSupportLoss).toBeCloseTo(dot(lossBefore), 5);
  });
});

test('with a cold share', async () => {
  select(rich, { ...embedded, personal: blocks });
  const setting = { innerSteps: 2, coldShare: 0.3 };
  const { found, tasks } = await computed(setting);
  expectGradient(current, found, expectedOf(tasks, setting), tasks);
});

describe('support sets without rows', () => {
  test.each(['some', 'all'])('%s of them', async (which) => {
    select(rich, { ...embedded, personal: blocks }, which === 'all' ? noSupport : halfSupport);
    const setting = { innerSteps: 3 };
    const { found, tasks } = await computed(setting);
    expectGradient(current, found, expectedOf(tasks, setting), tasks);
  });
});

/** Every row is a query row. */
function noSupport(store: TaskStore): TaskStore {
  return withSupport(store, () => false);
}

function halfSupport(store: TaskStore): TaskStore {
  return withSupport(store, ({ taskIndex }) => taskIndex % 2 === 0);
}

function withSupport(store: TaskStore, has: (task: TaskRows) => boolean): TaskStore {
  return {
    ...store,
    readTasks: async (indices) =>
      (await store.readTasks(indices)).map((task) =>
        has(task) ? task : { ...task, supportRowCount: 0 },
      ),
  };
}

test('leaves no tensor behind', async () => {
  select(rich, { ...embedded, personal: blocks });
  const setting = { innerSteps: 2, coldShare: 0.3 };
  const first = await computed(setting);
  const { numTensors } = executor.engine.tf.memory();
  const second = await computed(setting);
  expect(executor.engine.tf.memory().numTensors).toBe(numTensors);
  expect(second.found.bytes).toEqual(first.found.bytes);
});

test.each(stepCounts)(
  'the referee agrees with finite differences of the outer loss over %i steps',
  async (innerSteps) => {
    select(rich, { ...embedded, personal: ['adgroupEmbedding', 'layer1', 'bias'] });
    const { spec, meta, store } = current;
    const [task] = (await store.readTasks([2])) as [TaskRows];
    const { gradient } = adaptedLoss(spec, meta, task, { innerSteps, innerRate });
    // Through the first-order referee, which shares no differentiation with the second-order one.
    const lossAt = (dense: Values): number => {
      const phi = adapted(spec, meta, task, innerSteps, innerRate, dense);
      return taskLoss(spec, meta, phi, task, queryOf(task)).loss;
    };
    const step = 1e-5;
    for (const { name } of spec.variables) {
      const values = denseValuesOf(meta).get(name)!;
      const lossWith = (index: number, offset: number): number =>
        lossAt(
          denseValuesOf(meta).set(
            name,
            values.map((v, i) => (i === index ? v + offset : v)),
          ),
        );
      const differences = Array.from(
        values,
        (_, i) => (lossWith(i, step) - lossWith(i, -step)) / (2 * step),
      );
      expect(relativeDifference(gradient.get(name)!, differences), name).toBeLessThan(1e-6);
    }
  },
);

// This is the last test, because the library has one backend at a time.
test('a portable backend has the same gradient', async () => {
  select(rich, { ...embedded, personal: blocks });
  const portable = await createExecutor({
    openStore: () => Promise.resolve(current.store),
    backend: 'cpu',
  });
  try {
    const indices = current.store.tasks.map(({ taskIndex }) => taskIndex);
    const tasks = await current.store.readTasks(indices);
    const setting = { innerSteps: 2, coldShare: 0.3 };
    const found = await runJob(portable, current, indices, workOf(setting, tasks.length));
    expectGradient(current, found, expectedOf(tasks, setting), tasks);
  } finally {
    await portable.close();
  }
});
