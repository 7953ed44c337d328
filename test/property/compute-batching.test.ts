// The result of a job must not depend on the tasks that share it, and the job must leave nothing
// behind.

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  type CaseWork,
  jobCaseOf,
  relativeDifference,
  runJob,
  type JobCase,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { expectSumOf, namedGradient } from '../fixtures/compute/named-gradients.js';
import { openedOnce } from '../fixtures/opened.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';

const options = {
  ...{ bags: [{ rowCount: 6, lengthMax: 3 }], counts: true, taskCount: 12 },
  ...{ supportRowCountMax: 5, queryRowCountMax: 5 },
};
const model = {
  embeddingWidth: 4,
  hiddenWidths: [6, 5],
  adgroupEmbedding: true,
  personal: ['bias', 'numbers', 'layer1', 'output', 'adgroupEmbedding'],
};
const jobCase = jobCaseOf(tinyTaskStore(options), model);
const settings = { kind: 'fomaml', innerSteps: 2, innerRate: 0.2 };
const method = methodOf(settings);

const executor = openedOnce(() =>
  createExecutor({ openStore: () => Promise.resolve(current.store) }),
);
let current: JobCase = jobCase;

const gradientWork = (taskWeights: number[], kind: 'fomaml' | 'global' = 'fomaml'): CaseWork => ({
  kind: 'gradient',
  method: kind === 'fomaml' ? method : { kind },
  taskWeights,
});

const gate = methodOf({
  ...{ kind: 'paml-gate', innerSteps: 2, innerRate: 0.2, preferenceWidth: 3 },
  ...{ attributes: ['category1'] },
});
const gateCase = jobCaseOf(
  { ...tinyTaskStore({ ...options, supportRowCountMax: 3 }), digest: 'gate' },
  model,
  5,
  gate,
);
const gateWork = (taskWeights: number[]): CaseWork => ({
  ...{ kind: 'gradient', method: gate },
  taskWeights,
});

async function gradientOf(indices: number[], work: CaseWork): Promise<Map<string, Float32Array>> {
  const output = await runJob(executor, current, indices, work);
  return namedGradient(output, current.spec, await current.store.readTasks(indices));
}

/** A graph is captured for each new shape of a job, which takes most of the time. */
const taskSets = fc.uniqueArray(fc.nat(11), { minLength: 2, maxLength: 4 });

type WorkOf = (taskWeights: number[]) => CaseWork;

describe.each<[string, JobCase, WorkOf]>([
  ['fomaml', jobCase, (weights) => gradientWork(weights)],
  ['global', jobCase, (weights) => gradientWork(weights, 'global')],
  ['paml-gate', gateCase, gateWork],
])('%s', (_, ofKind, workOf) => {
  beforeAll(() => void (current = ofKind));
  afterAll(() => void (current = jobCase));

  test('a job is the sum of jobs of one task each, in any order', async () => {
    await fc.assert(
      fc.asyncProperty(taskSets, async (indices) => {
        const weightOf = (index: number): number => 0.1 + index / 10;
        const of = (some: number[]) => gradientOf(some, workOf(some.map(weightOf)));
        const whole = await of(indices);
        const parts: Map<string, Float32Array>[] = [];
        for (const index of indices) parts.push(await of([index]));
        expectSumOf(parts, whole);
        expectSumOf([whole], await of(indices.toReversed()));
      }),
      { numRuns: 2 },
    );
  });
});

describe('tasks of equal size, which are not padded', () => {
  const rowCount = 11;
  /** Repeats the rows until there are enough. */
  const sized = (task: TaskRows): TaskRows => {
    const places = (length: number): number[] =>
      Array.from({ length: rowCount * length }, (_, place) => place % (task.rowCount * length));
    const ints = (values: Int32Array): Int32Array =>
      Int32Array.from(places(values.length / task.rowCount), (place) => values[place]!);
    const floats = (values: Float32Array): Float32Array =>
      Float32Array.from(places(1), (place) => values[place]!);
    return {
      ...{ ...task, rowCount, supportRowCount: 6 },
      categoryIds: task.categoryIds.map(ints),
      bagIds: task.bagIds.map(ints),
      numbers: task.numbers.map(floats),
      ...{ clicks: floats(task.clicks), impressions: floats(task.impressions) },
    };
  };
  const raw = tinyTaskStore(options);
  const alike = jobCaseOf(
    {
      ...{ ...raw, digest: 'of one size' },
      readTasks: async (indices) => (await raw.readTasks(indices)).map(sized),
    },
    model,
  );
  test('are the sum of jobs of one task each', async () => {
    current = alike;
    const indices = [3, 0, 7, 5];
    const weights = [0.1, 0.3, 0.2, 0.15];
    const workOf = (taskWeights: number[]): CaseWork => ({
      ...{ kind: 'gradient', method: methodOf({ kind: 'fomaml', innerSteps: 2, innerRate: 0.2 }) },
      taskWeights,
    });
    const whole = await gradientOf(indices, workOf(weights));
    const parts: Map<string, Float32Array>[] = [];
    for (const [place, index] of indices.entries())
      parts.push(await gradientOf([index], workOf([weights[place]!])));
    current = jobCase;
    expectSumOf(parts, whole);
  });
});

test('a giant task of weight 0 next to others changes only the padding', async () => {
  const giant = tinyTaskStore({ ...options, supportRowCountMax: 150, queryRowCountMax: 150 });
  const store = { ...giant, digest: 'with a giant' };
  const largest = [...store.tasks].sort((a, b) => b.queryRowCount - a.queryRowCount)[0]!.taskIndex;
  const smallest = [...store.tasks]
    .sort((a, b) => a.queryRowCount - b.queryRowCount)
    .slice(0, 3)
    .map(({ taskIndex }) => taskIndex);
  current = jobCaseOf(store, model);
  const alone = await gradientOf(smallest, gradientWork([0.2, 0.3, 0.5]));
  const beside = await gradientOf([...smallest, largest], gradientWork([0.2, 0.3, 0.5, 0]));
  current = jobCase;
  for (const [name, values] of alone)
    expect(relativeDifference(beside.get(name)!, values, 0.1), name).toBeLessThan(1e-5);
});

describe('a job cut into many micro-batches', () => {
  const emptySets = jobCaseOf(
    { ...tinyTaskStore({ ...options, hasEmptySets: true }), digest: 'empty sets' },
    model,
  );
  const taskWeights = [0.3, 0.25, 0.15];
  const works: [string, CaseWork][] = [
    ['fomaml', gradientWork(taskWeights)],
    [
      'fomaml with a cold share',
      {
        kind: 'gradient',
        method: methodOf({ ...settings, coldShare: 0.4 }),
        taskWeights,
        coldTaskWeights: taskWeights.toReversed(),
      },
    ],
    ['global', gradientWork(taskWeights, 'global')],
    ['paml-gate', gateWork(taskWeights)],
    [
      'predict, paml-gate',
      {
        ...{ kind: 'predict', method: gate, rows: 'query' },
        adaptations: [
          { innerRate: 0.3, innerSteps: 0 },
          { innerRate: 0.3, innerSteps: 2 },
        ],
      },
    ],
    [
      'predict',
      {
        kind: 'predict',
        method,
        adaptations: [
          { innerRate: 0.3, innerSteps: 0 },
          { innerRate: 0.3, innerSteps: 2 },
          { innerRate: 0.1, innerSteps: 1 },
        ],
        rows: 'query',
      },
    ],
    [
      'predict support rows',
      {
        kind: 'predict',
        method,
        adaptations: [{ innerRate: 0.3, innerSteps: 2 }],
        rows: 'support',
      },
    ],
  ];

  const casesOf = ({ method: { kind } }: CaseWork): JobCase[] =>
    kind === 'paml-gate' ? [gateCase] : kind === 'global' ? [jobCase] : [jobCase, emptySets];

  test.each(works)('gives what one micro-batch gives: %s', async (_, work) => {
    for (const candidate of casesOf(work)) {
      current = candidate;
      const indices = [4, 0, 7];
      const whole = await runJob(executor, candidate, indices, work);
      const cut = await runJob(executor, candidate, indices, work, 1);
      expect(cut.queryRowCount).toBe(whole.queryRowCount);
      expect(cut.weightedQueryLoss).toBeCloseTo(whole.weightedQueryLoss, 5);
      expect(cut.weightedSupportLoss).toBeCloseTo(whole.weightedSupportLoss, 5);
      for (const [name, values] of whole.tensors)
        expect(relativeDifference(cut.tensors.get(name)!, values, 0.1), name).toBeLessThan(1e-5);
    }
    current = jobCase;
  });

  const twice = works.filter(([name]) => ['fomaml with a cold share', 'predict'].includes(name));

  test.each(twice)('is the same to the last bit when computed again: %s', async (_, work) => {
    const [own = jobCase] = casesOf(work);
    current = own;
    const indices = [4, 0, 7];
    const once = await runJob(executor, own, indices, work, 40);
    // Other shapes in between and another executor must not matter.
    await runJob(executor, own, [3, 5, 8], work, 200);
    const other = await createExecutor({ openStore: () => Promise.resolve(own.store) });
    for (const again of [executor, other])
      expect((await runJob(again, own, indices, work, 40)).bytes).toEqual(once.bytes);
    await other.close();
    current = jobCase;
  });
});

test('tasks without rows of the kind leave all gradients at zero', async () => {
  const store = tinyTaskStore({ ...options, hasEmptySets: true });
  current = jobCaseOf({ ...store, digest: 'no query rows' }, model);
  const found = await runJob(executor, current, [1, 4], gradientWork([0.5, 0.5]));
  current = jobCase;
  expect(found.queryRowCount).toBe(0);
  expect(found.weightedSupportLoss).toBeGreaterThan(0);
  expect([...found.tensors.values()].every((values) => values.every((v) => v === 0))).toBe(true);
});

test('prediction after 0 steps is the same at any rate', async () => {
  const adaptations = [
    { innerRate: 0.5, innerSteps: 2 },
    { innerRate: 0.1, innerSteps: 0 },
    { innerRate: 0.5, innerSteps: 0 },
  ];
  const work: CaseWork = { kind: 'predict', method, adaptations, rows: 'query' };
  const { tensors, queryRowCount } = await runJob(executor, jobCase, [1, 5, 2], work);
  const logits = tensors.get('logits')!;
  const [moved, initial, same] = [0, 1, 2].map((setting) =>
    logits.subarray(setting * queryRowCount, (setting + 1) * queryRowCount),
  );
  expect(same).toEqual(initial);
  expect(relativeDifference(moved!, initial!)).toBeGreaterThan(0.01);
  expect(initial!.some((logit) => logit === 0)).toBe(false);
});

test('many jobs leave no tensor behind, including failed ones', async () => {
  const { tf } = executor.engine;
  const works: CaseWork[] = [
    gradientWork([0.5, 0.5]),
    gradientWork([0.5, 0.5], 'global'),
    { kind: 'predict', method, adaptations: [{ innerRate: 0.1, innerSteps: 3 }], rows: 'query' },
  ];
  const before = tf.memory().numTensors;
  for (let round = 0; round < 6; round += 1)
    for (const work of works) await runJob(executor, jobCase, [round % 3, 5], work);
  await expect(runJob(executor, jobCase, [1, 2], gradientWork([1]))).rejects.toThrow(/one weight/);
  expect(tf.memory().numTensors).toBe(before);
});
