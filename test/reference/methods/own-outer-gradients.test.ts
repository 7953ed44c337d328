// Reptile and implicit MAML, whose outer gradients are not derivatives through inner steps. They
// are compared with displacements and exact solves in float64, and where the steps have converged,
// with the derivative through them. Seen to fail: directions that are residuals alone (steepest
// descent, which only a weak pull distinguishes from conjugate gradients), a residual that drifts,
// the pull left out of the system, shared variables without the cross term, Reptile without its
// steps on query rows.

import { describe, expect, test } from 'vitest';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import {
  jobCaseOf,
  type JobCase,
  type NamedOutput,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore, type TinyStoreOptions } from '../../fixtures/stores/tiny-task-store.js';
import { expectGradient, rich } from '../gradient-expectations.js';
import { jobRunner } from '../job-runner.js';
import {
  denseValuesOf,
  Leaves,
  lossNode,
  queryOf,
  supportOf,
  taskLoss,
  weightedSum,
  type Gradient,
  type Values,
} from '../referee.js';
import { ScalarTape } from '../scalar-tape.js';
import { adaptedLoss, personalOf, valuesAfter } from '../second-order-referee.js';

const model = { embeddingWidth: 3, hiddenWidths: [5, 4], personal: ['bias', 'layer1', 'output'] };
const weights = [0.1, 0.4, 0.2, 0.05, 0.25];
/** Every third task lacks support rows, the next one query rows. */
const gappy: TinyStoreOptions = { ...rich, hasEmptySets: true };

const jobs = jobRunner();
let current: JobCase;

async function computed(
  options: TinyStoreOptions,
  settings: { readonly kind: string } & Record<string, unknown>,
  personal: readonly string[] = model.personal,
): Promise<{ found: NamedOutput; tasks: TaskRows[] }> {
  const store = tinyTaskStore(options);
  current = jobCaseOf(store, { ...model, personal });
  const indices = store.tasks.map(({ taskIndex }) => taskIndex).reverse();
  const found = await jobs.run(
    current,
    {
      kind: 'gradient',
      method: methodOf(settings),
      taskWeights: weights.slice(0, indices.length),
    },
    indices,
  );
  return { found, tasks: await store.readTasks(indices) };
}

describe.each([
  ['all sets filled', rich],
  ['some sets empty', gappy],
  ['one row in every set', { ...rich, supportRowCountMax: 1, queryRowCountMax: 1 }],
])('Reptile, %s', (_, options) => {
  test.each([
    { innerSteps: 1, continuesOnQuery: false, supportBatches: 1 },
    { innerSteps: 5, continuesOnQuery: false, supportBatches: 1 },
    { innerSteps: 3, continuesOnQuery: true, supportBatches: 1 },
    { innerSteps: 3, continuesOnQuery: true, supportBatches: 2 },
  ])('%o', async (settings) => {
    const innerRate = 0.4;
    const { found, tasks } = await computed(options, { kind: 'reptile', innerRate, ...settings });
    const { spec, meta } = current;
    const { innerSteps, supportBatches } = settings;
    const loop = { innerSteps, innerRate, supportBatches };
    const start = denseValuesOf(meta);
    const gradients = tasks.map((task) => {
      let end = valuesAfter(spec, meta, task, loop);
      if (settings.continuesOnQuery) end = valuesAfter(spec, meta, task, loop, end, queryOf);
      const { gradient } = taskLoss(spec, meta, end, task, queryOf(task));
      for (const name of personalOf(spec))
        gradient.set(
          name,
          start.get(name)!.map((value, index) => value - end.get(name)![index]!),
        );
      return gradient;
    });
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
  });
});

const PROXIMAL_WEIGHT = 0.8;
const WEAK_PROXIMAL_WEIGHT = 0.02;

describe('implicit MAML', () => {
  test.each<[string, TinyStoreOptions, string[], number]>([
    ['all sets filled', rich, ['bias', 'layer1', 'output'], 30],
    ['some sets empty', gappy, ['bias', 'output'], 8],
  ])('after a few steps is the exact solve at their end point, %s', async (...given) => {
    const [, options, personal, iterationCount] = given;
    const loop = { innerSteps: 3, innerRate: 0.4, proximalWeight: PROXIMAL_WEIGHT };
    const settings = { kind: 'imaml', ...loop, iterationCount };
    const { found, tasks } = await computed(options, settings, personal);
    const { spec, meta } = current;
    const gradients = tasks.map((task) =>
      implicitGradient(spec, meta, task, valuesAfter(spec, meta, task, loop), PROXIMAL_WEIGHT),
    );
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
  });

  // The weaker the pull, the worse the condition: steepest descent would hardly have moved.
  test('with a weak pull is exact after as many steps as a task has parameters', async () => {
    const loop = { innerSteps: 3, innerRate: 0.4, proximalWeight: WEAK_PROXIMAL_WEIGHT };
    const iterationCount = 5;
    const settings = { kind: 'imaml', ...loop, iterationCount };
    const { found, tasks } = await computed(rich, settings, ['bias', 'output']);
    const { spec, meta } = current;
    const parameterCount = personalOf(spec).reduce(
      (sum, name) => sum + denseValuesOf(meta).get(name)!.length,
      0,
    );
    expect(parameterCount).toBe(iterationCount);
    const gradients = tasks.map((task) =>
      implicitGradient(spec, meta, task, valuesAfter(spec, meta, task, loop), loop.proximalWeight),
    );
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
  });

  test('at the minimum is the derivative through the steps that led to it', async () => {
    const loop = { innerSteps: 40, innerRate: 0.25, proximalWeight: 2 };
    const options = { ...rich, taskCount: 2 };
    const settings = { kind: 'imaml', ...loop, iterationCount: 8 };
    const { found, tasks } = await computed(options, settings, ['bias', 'output']);
    const { spec, meta } = current;
    const gradients = tasks.map((task) => adaptedLoss(spec, meta, task, loop).gradient);
    expectGradient(current, found, weightedSum(gradients, weights), tasks);
  });

  test('after one conjugate-gradient step follows only the query gradient', async () => {
    const loop = { innerSteps: 2, innerRate: 0.4, proximalWeight: PROXIMAL_WEIGHT };
    const options = { ...rich, taskCount: 1 };
    const { found, tasks } = await computed(options, { kind: 'imaml', ...loop, iterationCount: 1 });
    const { spec, meta } = current;
    const end = valuesAfter(spec, meta, tasks[0]!, loop);
    const { gradient } = taskLoss(spec, meta, end, tasks[0]!, queryOf(tasks[0]!));
    const names = personalOf(spec);
    const right = names.flatMap((name) => [...gradient.get(name)!]);
    const along = names.flatMap((name) => [...found.tensors.get(name)!]);
    const cosine = dot(right, along) / Math.sqrt(dot(right, right) * dot(along, along));
    expect(cosine).toBeCloseTo(1, 6);
  });
});

/** By a dense solve with the Hessian of the support loss at `end`. */
function implicitGradient(
  spec: ModelSpec,
  meta: MetaParameters,
  task: TaskRows,
  end: Values,
  proximalWeight: number,
): Gradient {
  const { gradient } = taskLoss(spec, meta, end, task, queryOf(task));
  const tape = new ScalarTape();
  const leaves = new Leaves(tape, end, meta);
  for (const { name } of spec.variables) leaves.variable(name);
  const loss = lossNode(spec, leaves, task, supportOf(task));
  const names = personalOf(spec);
  const nodes = names.flatMap((name) => leaves.variable(name));
  const slopes = tape.gradientNodes(loss, nodes).map((slope) => tape.gradient(slope));
  const matrix = slopes.map((row, at) =>
    nodes.map((node, other) => row[node]! / proximalWeight + (at === other ? 1 : 0)),
  );
  const solution = solved(
    matrix,
    names.flatMap((name) => [...gradient.get(name)!]),
  );
  let place = 0;
  for (const name of names) {
    const { length } = leaves.variable(name);
    gradient.set(name, Float64Array.from(solution.slice(place, place + length)));
    place += length;
  }
  for (const [key, own] of leaves.nodes) {
    if (names.includes(key)) continue;
    const cross = own.map((node) =>
      dot(
        slopes.map((row) => row[node]!),
        solution,
      ),
    );
    const before = gradient.get(key) ?? new Float64Array(own.length);
    gradient.set(
      key,
      before.map((value, index) => value - cross[index]! / proximalWeight),
    );
  }
  return gradient;
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, index) => sum + value * b[index]!, 0);
}

/** Gaussian elimination with row pivots. */
function solved(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, at) => [...row, right[at]!]);
  const count = rows.length;
  for (let column = 0; column < count; column += 1) {
    let pivot = column;
    for (let row = column + 1; row < count; row += 1)
      if (Math.abs(rows[row]![column]!) > Math.abs(rows[pivot]![column]!)) pivot = row;
    [rows[column], rows[pivot]] = [rows[pivot]!, rows[column]!];
    for (let row = 0; row < count; row += 1) {
      if (row === column) continue;
      const factor = rows[row]![column]! / rows[column]![column]!;
      for (let at = column; at <= count; at += 1) rows[row]![at]! -= factor * rows[column]![at]!;
    }
  }
  return rows.map((row, at) => row[count]! / row[at]!);
}
