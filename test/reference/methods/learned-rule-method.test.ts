// The learned rule in the inner loop against the float64 referee: outer gradients of
// initialisation, knots and associations, in either order.

import { describe, expect, test } from 'vitest';
import type { MethodConfig } from '../../../shared/methods/methods.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import {
  type CaseWork,
  jobCaseOf,
  relativeDifference,
  type JobCase,
  type NamedOutput,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { expectGradient, rich } from '../gradient-expectations.js';
import { jobRunner } from '../job-runner.js';
import { weightedSum } from '../referee.js';
import { adaptedLoss, type RefereeLoop } from '../second-order-referee.js';

const model = {
  embeddingWidth: 3,
  hiddenWidths: [5, 4],
  adgroupEmbedding: true,
  personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'],
};
const innerRate = 0.4;
const weights = [0.1, 0.4, 0.2, 0.05, 0.25];

const jobs = jobRunner();

/** Knots by hand: those around log2(1 + evidence) / 2, with evidence 4 n c (1 - c). */
function sharesOf(task: TaskRows): [knot: number, share: number][] {
  const sum = (values: Float32Array): number =>
    values.slice(0, task.supportRowCount).reduce((total, value) => total + value, 0);
  const impressions = sum(task.impressions);
  const rate = (sum(task.clicks) + 0.5) / (impressions + 1);
  const place = Math.min(5, Math.log2(1 + 4 * impressions * rate * (1 - rate)) / 2);
  const below = Math.min(4, Math.floor(place));
  return [
    [below, 1 - (place - below)],
    [below + 1, place - below],
  ];
}

function refereeLoop(rank: number, innerSteps: number, order: 'first' | 'second'): RefereeLoop {
  return {
    innerSteps,
    innerRate,
    order,
    step: ({ tape, task, variable }, { name, block, scaled }) => {
      const knots = variable(`rule/${name}`);
      const factor = tape.add(
        ...sharesOf(task).map(([knot, share]) => tape.scale(knots[knot]!, share)),
      );
      const association = rank === 0 ? [] : variable(`association/${name}`);
      const projected = Array.from({ length: rank }, (_, axis) =>
        tape.add(
          ...scaled.map((gradient, entry) =>
            tape.multiply(gradient, association[entry * rank + axis]!),
          ),
        ),
      );
      return block.map((node, entry) => {
        const smoothed = projected.map((value, axis) =>
          tape.multiply(value, association[entry * rank + axis]!),
        );
        const moved = tape.add(tape.multiply(factor, scaled[entry]!), ...smoothed);
        return tape.add(node, tape.scale(moved, -1));
      });
    },
  };
}

const cases = [
  { rank: 2, innerSteps: 1, order: 'second', path: 'kept' },
  { rank: 2, innerSteps: 5, order: 'first', path: 'kept' },
  { rank: 2, innerSteps: 5, order: 'second', path: 'kept' },
  { rank: 2, innerSteps: 5, order: 'second', path: 'recomputed' },
  { rank: 0, innerSteps: 3, order: 'second', path: 'kept' },
] as const;

describe('the learned rule in the inner loop', () => {
  test.each(cases)('rank $rank, $innerSteps steps, $order order, $path', async (chosen) => {
    const { rank, innerSteps, order, path } = chosen;
    const kind = 'learned-rule';
    const method = methodOf({ kind, rank, innerSteps, innerRate, order, path });
    const jobCase = jobCaseOf(tinyTaskStore(rich), model, 5, method);
    const { spec, meta, store } = jobCase;
    for (const [name, { values }] of meta.dense)
      for (const [at, value] of values.entries())
        if (name.startsWith('rule/')) values[at] = value + 0.4 * Math.sin(at + name.length);
        else if (name.startsWith('association/')) values[at] = 20 * value;
    const indices = store.tasks.map(({ taskIndex }) => taskIndex);
    const tasks = await store.readTasks(indices);
    const work: CaseWork = { kind: 'gradient', method, taskWeights: weights };
    const found = await jobs.run(jobCase, work, indices);
    const loop = refereeLoop(rank, innerSteps, order);
    const outcomes = tasks.map((task) => adaptedLoss(spec, meta, task, loop));
    const gradients = outcomes.map(({ gradient }) => gradient);
    expectGradient(jobCase, found, weightedSum(gradients, weights), tasks);
    expect(new Set(tasks.map((task) => sharesOf(task)[0]![0])).size).toBeGreaterThan(1);
  });

  test('with its knots at 1 and no association it equals MAML', async () => {
    const settings = { innerSteps: 2, innerRate };
    const methods = {
      maml: methodOf({ kind: 'maml', ...settings }),
      learned: methodOf({ kind: 'learned-rule', rank: 0, ...settings }),
    };
    const maml = jobCaseOf(tinyTaskStore(rich), model, 5, methods.maml);
    const learned = jobCaseOf(tinyTaskStore(rich), model, 5, methods.learned);
    for (const [name, { values }] of learned.meta.dense)
      values.set(maml.meta.dense.get(name)?.values ?? values.map(() => 1));
    for (const [name, { values }] of learned.meta.tables)
      values.set(maml.meta.tables.get(name)!.values);
    const outputOf = (jobCase: JobCase, method: MethodConfig): Promise<NamedOutput> =>
      jobs.run(jobCase, { kind: 'gradient', method, taskWeights: weights });
    const expected = await outputOf(maml, methods.maml);
    const found = await outputOf(learned, methods.learned);
    expect(found.weightedQueryLoss).toBeCloseTo(expected.weightedQueryLoss, 6);
    for (const [name, values] of expected.tensors)
      expect(relativeDifference(found.tensors.get(name)!, values), name).toBeLessThan(1e-5);
  });
});
