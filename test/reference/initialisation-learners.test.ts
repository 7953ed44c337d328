// Outer gradients of the initialisation learners against the float64 referee, which is told of each
// method's start and step and of nothing else.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JobWork } from '../../shared/protocol.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/create-executor.js';
import { jobCaseOf, runJob, type JobCase } from '../fixtures/compute-inputs.js';
import { methodOf } from '../fixtures/methods.js';
import { tinyTaskStore } from '../fixtures/tiny-task-store.js';
import { expectGradient, rich } from './gradient-expectations.js';
import { weightedSum } from './referee.js';
import {
  adaptedLoss,
  type RefereeLoop,
  type RefereeStep,
  type RefereeTask,
} from './second-order-referee.js';

const model = {
  embeddingWidth: 3,
  hiddenWidths: [5, 4],
  adgroupEmbedding: true,
  personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'],
};
const innerRate = 0.4;
const weights = [0.1, 0.4, 0.2, 0.05, 0.25];

let executor: LocalExecutor;
let current: JobCase;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(current.store) });
});
afterAll(() => executor.close());

type Settings = { readonly kind: string } & Record<string, unknown>;

/** What of the referee's loop a method changes. */
type Rule = Omit<RefereeLoop, 'innerSteps' | 'innerRate' | 'order'>;

type NodeRate = (tasks: RefereeTask, step: RefereeStep, index: number) => number;

/** phi - rate .* scaled gradient. */
function rated(rateOf: NodeRate): Rule {
  return {
    step: (tasks, step) =>
      step.block.map((node, index) => {
        const moved = tasks.tape.multiply(rateOf(tasks, step, index), step.scaled[index]!);
        return tasks.tape.add(node, tasks.tape.scale(moved, -1));
      }),
  };
}

const blockOf = (name: string): string => name.split('.')[0]!;
const perBlock: NodeRate = ({ variable }, { name }) => variable(`rates/${blockOf(name)}`)[0]!;
const perParameter: NodeRate = ({ variable }, { name }, index) => variable(`rates/${name}`)[index]!;
const clamped: NodeRate = (tasks, step, index) => tasks.tape.relu(perParameter(tasks, step, index));
const factors = { output: 0.5, layer1: 2 };
const fixed: NodeRate = ({ tape }, { name }) =>
  tape.constant((factors as Record<string, number>)[blockOf(name)] ?? 1);

const cases: [string, Settings, Rule][] = [
  ['fixed rates per block', { kind: 'maml', rateFactors: factors }, rated(fixed)],
  ['Meta-SGD', { kind: 'meta-sgd' }, rated(perParameter)],
  ['Meta-SGD, clamped', { kind: 'meta-sgd', clampsRates: true }, rated(clamped)],
  ['Meta-SGD per block', { kind: 'meta-sgd', rates: 'block' }, rated(perBlock)],
  [
    'Meta-SGD, one rate',
    { kind: 'meta-sgd', rates: 'global' },
    rated(({ variable }) => variable('rates/all')[0]!),
  ],
  [
    'Meta-SGD with momentum',
    { kind: 'meta-sgd', momentum: 0.6 },
    { momentum: 0.6, ...rated(perParameter) },
  ],
];

const variants = [
  { innerSteps: 1, order: 'second', path: 'kept' },
  { innerSteps: 5, order: 'first', path: 'kept' },
  { innerSteps: 5, order: 'second', path: 'kept' },
  { innerSteps: 5, order: 'second', path: 'recomputed' },
] as const;
type Variant = (typeof variants)[number];

/** MAML is two methods by order; the others have it as a setting. */
function settingsOf(settings: Settings, { innerSteps, order, path }: Variant): Settings {
  const common = { innerSteps, innerRate, ...settings };
  if (settings.kind !== 'maml') return { ...common, order, path };
  return order === 'first' ? { ...common, kind: 'fomaml' } : { ...common, path };
}

describe.each(cases)('%s', (_, settings, rule) => {
  test.each(variants)('$innerSteps inner steps, $order order, $path', async (variant) => {
    const { innerSteps, order } = variant;
    const method = methodOf(settingsOf(settings, variant));
    current = jobCaseOf(tinyTaskStore(rich), model, 5, method);
    const { spec, meta, store } = current;
    turnSomeRates(current);
    const indices = store.tasks.map(({ taskIndex }) => taskIndex).reverse();
    const tasks = await store.readTasks(indices);
    const work: JobWork = { kind: 'gradient', method, taskWeights: weights };
    const found = await runJob(executor, current, indices, work);
    const loop: RefereeLoop = { innerSteps, innerRate, order, ...rule };
    const outcomes = tasks.map((task) => adaptedLoss(spec, meta, task, loop));
    const gradients = outcomes.map(({ gradient }) => gradient);
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
    const loss = outcomes.reduce((sum, { lastLoss }, at) => sum + lastLoss * weights[at]!, 0);
    expect(found.weightedQueryLoss).toBeCloseTo(loss, 5);
  });
});

/** Every third rate below 0. */
function turnSomeRates({ meta }: JobCase): void {
  for (const [name, { values }] of meta.dense)
    if (name.startsWith('rates/'))
      for (const [at, rate] of values.entries()) values[at] = at % 3 === 2 ? -rate : rate;
}
