// Every model with every kind of personal block: logits, first- and second-order gradients of the
// executor against the plain float64 referee.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/job/create-executor.js';
import {
  type GradientCaseWork,
  jobCaseOf,
  relativeDifference,
  runJob,
  type JobCase,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { expectGradient, rich } from './gradient-expectations.js';
import {
  adapted,
  allOf,
  denseValuesOf,
  logitsAt,
  queryOf,
  taskLoss,
  weightedSum,
  type Gradient,
} from './referee.js';
import { adaptedLoss } from './second-order-referee.js';

const small = { embeddingWidth: 3, hiddenWidths: [5, 4] };
const embedded = { ...small, adgroupEmbedding: true };
const blocks = ['bias', 'numbers', 'adgroupEmbedding', 'layer0', 'layer1', 'output'];
const crosses = ['cross0', 'cross1', 'cross2'];
const some = ['category1', 'bag0', 'number0', 'number1'];
const fm = { kind: 'fm', embeddingWidth: 3, hiddenWidths: [] };
const byField = { ...small, kind: 'deepfm', interactions: 'by-field' };

const cases: [string, unknown][] = [
  ['fm, bias', { ...fm }],
  ['fm, numbers', { ...fm, personal: ['numbers'] }],
  ['fm, embedding', { ...fm, adgroupEmbedding: true, personal: ['adgroupEmbedding', 'bias'] }],
  ['fm of some fields, no linear weights', { ...fm, linear: false, factorisedFields: some }],
  ['fm of some fields, numbers', { ...fm, factorisedFields: some, personal: ['numbers'] }],
  ['fm by field', { ...fm, interactions: 'by-field', personal: ['output', 'bias'] }],
  [
    'fm by some fields, no linear weights, everything',
    {
      ...{ ...fm, linear: false, adgroupEmbedding: true, interactions: 'by-field' },
      ...{ factorisedFields: some, personal: ['bias', 'numbers', 'adgroupEmbedding', 'output'] },
    },
  ],
  ...[['bias'], ['output'], ['numbers']].map((personal): [string, unknown] => [
    `fwfm, ${personal.join()}`,
    { ...fm, kind: 'fwfm', personal },
  ]),
  [
    'fwfm of some fields, no linear weights, everything',
    {
      ...{ ...fm, kind: 'fwfm', linear: false, adgroupEmbedding: true },
      factorisedFields: ['category0', 'bag1', 'number1', 'adgroupEmbedding'],
      personal: ['bias', 'numbers', 'adgroupEmbedding', 'output'],
    },
  ],
  ['deepfm without linear weights', { ...small, linear: false, personal: ['bias', 'output'] }],
  ['deepfm of some fields', { ...small, factorisedFields: some, personal: ['layer1'] }],
  ['deepfm by field', { ...byField, personal: ['bias', 'output'] }],
  ['deepfm by field, no hidden layers', { ...byField, hiddenWidths: [], personal: ['output'] }],
  [
    'deepfm by field, some fields, no linear weights, padding',
    { ...byField, linear: false, padding: 'trained', factorisedFields: ['category0', 'bag1'] },
  ],
  [
    'deepfm by field, some fields, everything',
    {
      ...embedded,
      ...{ interactions: 'by-field', factorisedFields: ['adgroupEmbedding', 'number1', 'bag0'] },
      personal: blocks,
    },
  ],
  ['mlp with trained padding', { ...small, kind: 'mlp', padding: 'trained', personal: ['layer0'] }],
  ['logistic with trained padding', { kind: 'logistic', hiddenWidths: [], padding: 'trained' }],
  ['wide-deep', { ...small, kind: 'wide-deep', personal: ['bias', 'output'] }],
  [
    'wide-deep with wide fields, first layer',
    { ...small, kind: 'wide-deep', wideFields: ['category1', 'bag0'], personal: ['layer0'] },
  ],
  [
    'wide-deep with wide fields, everything',
    { ...embedded, kind: 'wide-deep', wideFields: ['category0', 'bag1'], personal: blocks },
  ],
  ...['ipnn', 'opnn', 'pnn'].flatMap((kind): [string, unknown][] => [
    [`${kind}, first layer`, { ...small, kind, personal: ['layer0'] }],
    [`${kind}, everything`, { ...embedded, kind, linear: true, personal: blocks }],
    [
      `${kind} of some fields`,
      {
        ...{ ...embedded, hiddenWidths: [], kind },
        factorisedFields: ['category0', 'bag1', 'number1', 'adgroupEmbedding'],
        personal: ['numbers', 'adgroupEmbedding', 'output'],
      },
    ],
  ]),
  ...['ipnn', 'pnn'].flatMap((kind): [string, unknown][] => [
    [`${kind} by field`, { ...small, kind, interactions: 'by-field', personal: ['layer0'] }],
    [
      `${kind} by some fields, everything`,
      { ...embedded, kind, interactions: 'by-field', factorisedFields: some, personal: blocks },
    ],
  ]),
  ['pnn, output and bias', { ...small, kind: 'pnn', personal: ['bias', 'output'] }],
  ['pnn, numbers', { ...small, kind: 'pnn', personal: ['numbers'] }],
  ['pnn, embedding', { ...embedded, kind: 'pnn', personal: ['adgroupEmbedding'] }],
  ...[{}, { crossTower: 'stacked', crossRank: 2, crossLayers: 2 }].flatMap(
    (own): [string, unknown][] => {
      const dcn = { ...small, kind: 'dcn-v2', ...own };
      const name = 'crossRank' in own ? 'low-rank, stacked dcn-v2' : 'dcn-v2';
      return [
        [`${name}, bias and output`, { ...dcn, personal: ['bias', 'output'] }],
        [`${name}, a middle cross layer`, { ...dcn, personal: ['cross1'] }],
        [`${name}, first layer`, { ...dcn, personal: ['layer0'] }],
        [
          `${name}, embedding`,
          { ...dcn, adgroupEmbedding: true, personal: ['adgroupEmbedding'], linear: true },
        ],
        [
          `${name}, everything`,
          {
            ...{ ...dcn, adgroupEmbedding: true, linear: true },
            personal: [...blocks, ...('crossRank' in own ? crosses.slice(0, 2) : crosses)],
          },
        ],
      ];
    },
  ),
  [
    'dcn-v2 without hidden layers',
    { ...small, kind: 'dcn-v2', hiddenWidths: [], personal: ['cross2'] },
  ],
];

const taskWeights = [0.1, 0.4, 0.2, 0.25, 0.05];
const coldTaskWeights = [0.3, 0.1, 0.25, 0.15, 0.2];
const [innerSteps, innerRate, coldShare] = [2, 0.2, 0.3];

let executor: LocalExecutor;
let current: JobCase;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(current.store) });
});
afterAll(() => executor.close());

describe.each(cases)('%s', (name, model) => {
  const indices = [4, 3, 2, 1, 0];
  const setUp = async (): Promise<TaskRows[]> => {
    current = jobCaseOf({ ...tinyTaskStore(rich), digest: name }, model);
    return current.store.readTasks(indices);
  };
  const expectJob = async (
    work: Omit<GradientCaseWork, 'kind'>,
    gradients: readonly Gradient[],
    weights: readonly number[],
    tasks: readonly TaskRows[],
  ): Promise<void> => {
    const found = await runJob(executor, current, indices, { kind: 'gradient', ...work });
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
  };
  const inner = { innerSteps, innerRate, coldShare };

  test.each([
    { kind: 'fomaml', ...inner },
    { kind: 'maml', ...inner },
  ])('$kind', async (settings) => {
    const method = methodOf(settings);
    const tasks = await setUp();
    const { spec, meta } = current;
    const warm = tasks.map((task) =>
      method.kind === 'fomaml'
        ? taskLoss(
            spec,
            meta,
            adapted(spec, meta, task, innerSteps, innerRate),
            task,
            queryOf(task),
          ).gradient
        : adaptedLoss(spec, meta, task, { innerSteps, innerRate }).gradient,
    );
    const cold = tasks.map((t) => taskLoss(spec, meta, denseValuesOf(meta), t, allOf(t)).gradient);
    await expectJob(
      { method, taskWeights, coldTaskWeights },
      [...warm, ...cold],
      [
        ...taskWeights.map((w) => w * (1 - coldShare)),
        ...coldTaskWeights.map((w) => w * coldShare),
      ],
      tasks,
    );
  });

  test('the global model', async () => {
    const tasks = await setUp();
    const { spec, meta } = current;
    await expectJob(
      { method: methodOf({ kind: 'global' }), taskWeights },
      tasks.map((t) => taskLoss(spec, meta, denseValuesOf(meta), t, allOf(t)).gradient),
      taskWeights,
      tasks,
    );
  });

  test('logits before and after a step', async () => {
    const tasks = await setUp();
    const { spec, meta } = current;
    const adaptations = [
      { innerRate: 0.5, innerSteps: 1 },
      { innerRate: 0.1, innerSteps: 0 },
    ];
    const found = await runJob(executor, current, indices, {
      kind: 'predict',
      method: methodOf({ kind: 'global' }),
      adaptations,
      rows: 'query',
    });
    const expected = adaptations.flatMap((setting) =>
      tasks.flatMap((task) => {
        const phi = adapted(spec, meta, task, setting.innerSteps, setting.innerRate);
        return logitsAt(spec, meta, phi, task, queryOf(task));
      }),
    );
    expect(relativeDifference(found.tensors.get('logits')!, expected)).toBeLessThan(3e-5);
  });
});
