// Outer gradients of the initialisation learners against the float64 referee, which knows only each
// method's start and step. Seen to fail: every step with the rates of the first, the weights of a
// multi-step loss in reverse, velocities that are reset, contexts that start at 1, unchecked
// weights of steps.

import { describe, expect, test } from 'vitest';
import type { MethodConfig } from '../../../shared/methods/methods.js';
import type { LossKind } from '../../../shared/tasks/task-label.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import {
  type CaseWork,
  jobCaseOf,
  relativeDifference,
  type JobCase,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { expectGradient, rich } from '../gradient-expectations.js';
import { jobRunner } from '../job-runner.js';
import { logitsAt, queryOf, weightedSum } from '../referee.js';
import {
  adaptedLoss,
  valuesAfter,
  type RefereeLoop,
  type RefereeStep,
  type RefereeTask,
} from '../second-order-referee.js';

const model = {
  embeddingWidth: 3,
  hiddenWidths: [5, 4],
  adgroupEmbedding: true,
  personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'],
};
const innerRate = 0.4;
const weights = [0.1, 0.4, 0.2, 0.05, 0.25];

const jobs = jobRunner();
let current: JobCase;

type Settings = { readonly kind: string } & Record<string, unknown>;

/** The parts of the referee's loop that a method changes. */
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
/** Steps beyond the last with its own rates repeat that one. */
const perBlockAndStep: NodeRate = ({ variable }, { name, stepIndex }) => {
  const rates = variable(`rates/${blockOf(name)}`);
  return rates[Math.min(stepIndex, rates.length - 1)]!;
};
const perParameterAndStep: NodeRate = ({ variable }, { name, stepIndex, block }, index) => {
  const rates = variable(`rates/${name}`);
  const stepCount = rates.length / block.length;
  return rates[Math.min(stepIndex, stepCount - 1) * block.length + index]!;
};
const factors = { output: 0.5, layer1: 2 };
const fixed: NodeRate = ({ tape }, { name }) =>
  tape.constant((factors as Record<string, number>)[blockOf(name)] ?? 1);
const oneByStepAndFactors: NodeRate = (tasks, step, index) => {
  const rates = tasks.variable('rates/all');
  const rate = rates[Math.min(step.stepIndex, rates.length - 1)]!;
  return tasks.tape.multiply(rate, fixed(tasks, step, index));
};

interface Case {
  readonly settings: Settings;
  readonly rule: Rule;
  readonly personal?: readonly string[];
  /** Loss kinds of the tasks in turn; binary by default. */
  readonly losses?: readonly LossKind[];
  /** The loss after every step counts. */
  readonly isMultiStep?: true;
}

const cases: Record<string, Case> = {
  'fixed rates per block': {
    settings: { kind: 'maml', rateFactors: factors },
    rule: rated(fixed),
  },
  momentum: { settings: { kind: 'maml', momentum: 0.6 }, rule: { momentum: 0.6 } },
  'two minibatches': {
    settings: { kind: 'maml', supportBatches: 2 },
    rule: { supportBatches: 2 },
    losses: ['squared', 'binary'],
  },
  // Most tasks have fewer support rows, and do not move in some steps.
  'four minibatches and momentum': {
    settings: { kind: 'maml', supportBatches: 4, momentum: 0.6 },
    rule: { supportBatches: 4, momentum: 0.6 },
  },
  'Meta-SGD': { settings: { kind: 'meta-sgd' }, rule: rated(perParameter) },
  'Meta-SGD, clamped': {
    settings: { kind: 'meta-sgd', clampsRates: true },
    rule: rated(clamped),
  },
  'Meta-SGD per block': {
    settings: { kind: 'meta-sgd', rates: 'block' },
    rule: rated(perBlock),
  },
  'Meta-SGD, one rate, with momentum': {
    settings: { kind: 'meta-sgd', rates: 'global', momentum: 0.6 },
    rule: { momentum: 0.6, ...rated(({ variable }) => variable('rates/all')[0]!) },
  },
  'MAML++': { settings: { kind: 'maml++' }, rule: rated(perBlockAndStep), isMultiStep: true },
  'MAML++, minibatches and rates per parameter': {
    settings: { kind: 'maml++', supportBatches: 2, rates: 'parameter' },
    rule: { supportBatches: 2, ...rated(perParameterAndStep) },
  },
  'MAML++, one rate and factors by block': {
    settings: { kind: 'maml++', rates: 'global', rateFactors: factors },
    rule: rated(oneByStepAndFactors),
  },
  'MAML++, its multi-step loss alone': {
    settings: { kind: 'maml++', learnsRates: false },
    rule: {},
    isMultiStep: true,
  },
  CAVIA: {
    settings: { kind: 'cavia' },
    rule: { start: ({ tape, variable }, name) => variable(name).map(() => tape.constant(0)) },
    personal: ['adgroupEmbedding'],
  },
};

const variants = [
  { innerSteps: 1, order: 'second', path: 'kept' },
  { innerSteps: 5, order: 'first', path: 'kept' },
  { innerSteps: 5, order: 'second', path: 'kept' },
  { innerSteps: 5, order: 'second', path: 'recomputed' },
] as const;
type Variant = (typeof variants)[number];

/** MAML is two methods by order. Others have the order as a setting, or neither order nor path. */
function settingsOf(settings: Settings, { innerSteps, order, path }: Variant): Settings {
  const common = { innerSteps, innerRate, ...settings };
  if (settings.kind === 'imaml') return common;
  if (settings.kind !== 'maml') return { ...common, order, path };
  return order === 'first' ? { ...common, kind: 'fomaml' } : { ...common, path };
}

async function chosen(
  { settings, personal = model.personal, losses = ['binary'] }: Case,
  variant: Variant,
): Promise<{ method: MethodConfig; indices: number[]; tasks: TaskRows[] }> {
  const method = methodOf(settingsOf(settings, variant));
  const store = tinyTaskStore({ ...rich, losses });
  current = jobCaseOf(store, { ...model, personal }, 5, method);
  turnSomeRates(current);
  const indices = store.tasks.map(({ taskIndex }) => taskIndex).reverse();
  return { method, indices, tasks: await store.readTasks(indices) };
}

/** Every third rate is below 0. */
function turnSomeRates({ meta }: JobCase): void {
  for (const [name, { values }] of meta.dense)
    if (name.startsWith('rates/'))
      for (const [at, rate] of values.entries()) values[at] = at % 3 === 2 ? -rate : rate;
}

describe.each(Object.entries(cases))('%s', (_, each) => {
  test.each(variants)('$innerSteps inner steps, $order order, $path', async (variant) => {
    const { innerSteps, order } = variant;
    const { method, indices, tasks } = await chosen(each, variant);
    const { spec, meta } = current;
    const stepWeights = innerSteps === 1 ? [1] : [0.1, 0.15, 0.3, 0.2, 0.25];
    const steps = each.isMultiStep === true ? { stepWeights } : {};
    const work: CaseWork = { kind: 'gradient', method, taskWeights: weights, ...steps };
    const found = await jobs.run(current, work, indices);
    const loop: RefereeLoop = { innerSteps, innerRate, order, ...each.rule, ...steps };
    const outcomes = tasks.map((task) => adaptedLoss(spec, meta, task, loop));
    const gradients = outcomes.map(({ gradient }) => gradient);
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
    const loss = outcomes.reduce((sum, { lastLoss }, at) => sum + lastLoss * weights[at]!, 0);
    expect(found.weightedQueryLoss).toBeCloseTo(loss, 5);
  });
});

test.each([4, 6])('MAML++ of 5 inner steps with %i weights is refused', async (weightCount) => {
  const variant = { innerSteps: 5, order: 'second', path: 'kept' } as const;
  const { method, indices } = await chosen({ settings: { kind: 'maml++' }, rule: {} }, variant);
  const stepWeights = Array.from({ length: weightCount }, () => 1 / weightCount);
  const work: CaseWork = { kind: 'gradient', method, taskWeights: weights, stepWeights };
  await expect(jobs.run(current, work, indices)).rejects.toMatchObject({
    report: {
      kind: 'data',
      what: 'a job needs one weight per inner step',
      where: expect.stringMatching(/^stepWeights of job 0/) as string,
      expected: expect.stringMatching(/^5 weights/) as string,
      found: String(weightCount),
      cure: expect.stringMatching(/same version/) as string,
    },
  });
});

const predicted: Record<string, Case> = {
  ...cases,
  iMAML: { settings: { kind: 'imaml', proximalWeight: 0.7 }, rule: { proximalWeight: 0.7 } },
};

describe.each(Object.entries(predicted))('%s', (_, each) => {
  test('predicts after the steps that it was trained for, and after more', async () => {
    const { method, indices, tasks } = await chosen(each, {
      innerSteps: 5,
      order: 'second',
      path: 'kept',
    });
    const { spec, meta } = current;
    const adaptations = [
      { innerRate: 0.4, innerSteps: 2 },
      { innerRate: 0.2, innerSteps: 7 },
    ];
    const work: CaseWork = { kind: 'predict', method, adaptations, rows: 'query' };
    const { tensors } = await jobs.run(current, work, indices);
    const expected = adaptations.flatMap((adaptation) =>
      tasks.flatMap((task) => {
        const dense = valuesAfter(spec, meta, task, { ...adaptation, ...each.rule });
        return logitsAt(spec, meta, dense, task, queryOf(task));
      }),
    );
    expect(relativeDifference(tensors.get('logits')!, expected)).toBeLessThan(5e-5);
  });
});
