// Task-adaptive inner rates: the outer gradient, that of the tree's branches and leaves included,
// against the float64 referee, and worked leaf shares. Seen to fail: leaves in the order of breadth
// instead of branches, the size of the support set left out of the features.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JobWork } from '../../shared/protocol.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/create-executor.js';
import { jobCaseOf, runJob, type JobCase } from '../fixtures/compute-inputs.js';
import { methodOf } from '../fixtures/methods.js';
import { tinyTaskStore } from '../fixtures/tiny-task-store.js';
import { expectGradient, rich } from './gradient-expectations.js';
import { supportOf, weightedSum } from './referee.js';
import { adaptedLoss, type RefereeLoop, type RefereeTask } from './second-order-referee.js';

const weights = [0.1, 0.4, 0.2, 0.05, 0.25];
const innerRate = 0.4;
const depth = 2;
const branchCount = 2 ** depth - 1;

let executor: LocalExecutor;
let current: JobCase;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(current.store) });
});
afterAll(() => executor.close());

function featuresOf({ task }: RefereeTask): number[] {
  const { end } = supportOf(task);
  const sumOf = (values: Float32Array): number =>
    values.subarray(0, end).reduce((sum, value) => sum + value, 0);
  const [impressions, clicks] = [sumOf(task.impressions), sumOf(task.clicks)];
  return [
    Math.log1p(impressions) / 2 - 1,
    Math.log((9 * (clicks + 1)) / (impressions - clicks + 9)) / 2,
  ];
}

/** Nodes of the share of each leaf: at each branch left first, walked from the root. */
function sharesOf(seen: RefereeTask): number[] {
  const { tape, variable } = seen;
  const features = featuresOf(seen);
  const rightAt = (branch: number): number => {
    const terms = features.map((feature, place) =>
      tape.scale(variable('tree.weight')[place * branchCount + branch]!, feature),
    );
    return tape.sigmoid(tape.add(variable('tree.bias')[branch]!, ...terms));
  };
  return Array.from({ length: 2 ** depth }, (_, leaf) => {
    let [branch, share] = [0, tape.constant(1)];
    for (let level = depth - 1; level >= 0; level -= 1) {
      const goesRight = ((leaf >> level) & 1) === 1;
      const right = rightAt(branch);
      const taken = goesRight ? right : tape.add(tape.constant(1), tape.scale(right, -1));
      share = tape.multiply(share, taken);
      branch = 2 * branch + (goesRight ? 2 : 1);
    }
    return share;
  });
}

const step: RefereeLoop['step'] = (seen, { name, block, scaled }) => {
  const { tape, variable } = seen;
  const of = name.split('.')[0]!;
  const leaves = sharesOf(seen).map((share, leaf) =>
    tape.multiply(share, variable(`leafRates/${of}`)[leaf]!),
  );
  const rate = tape.add(variable(`rates/${of}`)[0]!, ...leaves);
  return block.map((node, index) =>
    tape.add(node, tape.scale(tape.multiply(rate, scaled[index]!), -1)),
  );
};

const variants = [
  { innerSteps: 1, order: 'second', path: 'kept' },
  { innerSteps: 4, order: 'first', path: 'kept' },
  { innerSteps: 4, order: 'second', path: 'kept' },
  { innerSteps: 4, order: 'second', path: 'recomputed' },
] as const;

describe('the outer gradient', () => {
  test.each(variants)('$innerSteps inner steps, $order order, $path', async (variant) => {
    const method = methodOf({ kind: 'paml-rate', innerRate, treeDepth: depth, ...variant });
    const model = {
      embeddingWidth: 3,
      hiddenWidths: [5, 4],
      adgroupEmbedding: true,
      personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'],
    };
    current = jobCaseOf(tinyTaskStore(rich), model, 5, method);
    const { spec, meta, store } = current;
    const indices = store.tasks.map(({ taskIndex }) => taskIndex);
    const tasks = await store.readTasks(indices);
    const work: JobWork = { kind: 'gradient', method, taskWeights: weights };
    const found = await runJob(executor, current, indices, work);
    const { innerSteps, order } = variant;
    const loop: RefereeLoop = { innerSteps, innerRate, order, step };
    const gradients = tasks.map((task) => adaptedLoss(spec, meta, task, loop).gradient);
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
  });
});

test('attributes are task features: another embedding, another rate', async () => {
  const method = methodOf({
    kind: 'paml-rate',
    innerRate,
    treeDepth: 1,
    attributes: ['category0'],
  });
  const store = tinyTaskStore(rich);
  const [feature] = store.manifest.features;
  const named = { ...method, attributes: [feature!.name] } as typeof method;
  current = jobCaseOf(
    store,
    { embeddingWidth: 3, hiddenWidths: [4], personal: ['bias'] },
    5,
    named,
  );
  const indices = store.tasks.map(({ taskIndex }) => taskIndex);
  const work: JobWork = { kind: 'gradient', method: named, taskWeights: weights };
  const { tensors } = await runJob(executor, current, indices, work);
  const gradient = tensors.get('tree.weight')!;
  expect(gradient).toHaveLength(2 + current.spec.tableRowWidth);
  expect(gradient.every((value) => value !== 0)).toBe(true);
});
