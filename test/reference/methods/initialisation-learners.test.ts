// Outer gradients of MAML against the float64 referee. Seen to fail: a first-order gradient in place of the second.

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
import { adaptedLoss, valuesAfter, type RefereeLoop } from '../second-order-referee.js';

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

interface Case {
  readonly settings: Settings;
  readonly rule: Rule;
  /** Loss kinds of the tasks in turn; binary by default. */
  readonly losses?: readonly LossKind[];
}

const cases: Record<string, Case> = {
  MAML: { settings: { kind: 'maml' }, rule: {} },
  'MAML, values and clicks': {
    settings: { kind: 'maml' },
    rule: {},
    losses: ['squared', 'binary'],
  },
};

const variants = [
  { innerSteps: 1, order: 'second' },
  { innerSteps: 5, order: 'first' },
  { innerSteps: 5, order: 'second' },
] as const;
type Variant = (typeof variants)[number];

/** MAML is two methods by order. */
function settingsOf(settings: Settings, { innerSteps, order }: Variant): Settings {
  const common = { innerSteps, innerRate, ...settings };
  return order === 'first' ? { ...common, kind: 'fomaml' } : common;
}

async function chosen(
  { settings, losses = ['binary'] }: Case,
  variant: Variant,
): Promise<{ method: MethodConfig; indices: number[]; tasks: TaskRows[] }> {
  const method = methodOf(settingsOf(settings, variant));
  const store = tinyTaskStore({ ...rich, losses });
  current = jobCaseOf(store, model, 5, method);
  const indices = store.tasks.map(({ taskIndex }) => taskIndex).reverse();
  return { method, indices, tasks: await store.readTasks(indices) };
}

describe.each(Object.entries(cases))('%s', (_, each) => {
  test.each(variants)('$innerSteps inner steps, $order order', async (variant) => {
    const { innerSteps, order } = variant;
    const { method, indices, tasks } = await chosen(each, variant);
    const { spec, meta } = current;
    const work: CaseWork = { kind: 'gradient', method, taskWeights: weights };
    const found = await jobs.run(current, work, indices);
    const loop: RefereeLoop = { innerSteps, innerRate, order, ...each.rule };
    const outcomes = tasks.map((task) => adaptedLoss(spec, meta, task, loop));
    const gradients = outcomes.map(({ gradient }) => gradient);
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
    const meanLoss = outcomes.reduce((sum, { loss }, at) => sum + loss * weights[at]!, 0);
    expect(found.weightedQueryLoss).toBeCloseTo(meanLoss, 5);
  });
});

describe.each(Object.entries(cases))('%s', (_, each) => {
  test('predicts after the steps that it was trained for, and after more', async () => {
    const { method, indices, tasks } = await chosen(each, {
      innerSteps: 5,
      order: 'second',
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
