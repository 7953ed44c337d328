/**
 * The implicit path (Rajeswaran, Finn, Kakade and Levine, NeurIPS 2019): the blocks after the inner
 * steps are treated as the minimum
 *
 *   phi_i = argmin  L(phi ; S_i) + lambda / 2 |phi - start|^2
 *
 * at which grad L + lambda (phi - start) = 0 determines how it moves with start and shared variables. With
 * g_i = w_i * grad L(phi_i ; Q_i) and H_i the Hessian of the support loss, both at phi_i,
 *
 *   v_i = (I + H_i / lambda)^-1 g_i
 *   personal blocks: sum_i v_i
 *   everything else: sum_i w_i * grad L(phi_i ; Q_i) - (1 / lambda) grad <grad_phi L(phi_i ; S_i), v_i>
 *
 * with phi_i and v_i fixed in the last term. v_i is found by a fixed number of conjugate-gradient steps
 * for each task, with products by H_i; nothing of the inner steps is kept. S_i is all support rows,
 * whichever minibatches the steps saw.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { OuterGradient } from '../../../shared/methods/inner-loop/method.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { blocksOf, descended, startState, supportGradient, byTask } from './inner-loop.js';
import { gradientsOf, named, packGroup, packIn, type TensorsByName } from './tensors-by-name.js';
import {
  learnedInputs,
  passOf,
  withTrunk,
  type JobTensors,
  type MetaGradientResult,
  type RowsWithTrunk,
} from './passes.js';
import { queryGradientAt } from './query-gradient.js';

type Implicit = Extract<OuterGradient, { kind: 'implicit' }>;

export function implicitGradient(
  job: JobTensors,
  loop: InnerLoop,
  { iterationCount }: Implicit,
  weights: tfjs.Tensor1D,
): MetaGradientResult {
  const { tf } = job.engine;
  const { proximalWeight } = loop.steps;
  if (proximalWeight === undefined) throw new Error('an implicit gradient has a proximal weight');
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  const start = startState(loop, adaptingTasksOf(job));
  const adapted = support === null ? null : descended(loop, support, start);
  const supportLosses = adapted?.losses ?? null;
  if (query === null)
    return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses };
  const end = adapted?.state ?? start;
  const direct = queryGradientAt(job, loop, { support, query, state: end }, weights);
  const blocks = blocksOf(adaptingTasksOf(job), end);
  const names = Object.keys(direct.blocks);
  const result = (own: TensorsByName, dense: TensorsByName, rows: tfjs.Tensor2D | null) => ({
    gradients: new Map([
      ...Object.entries(dense),
      ...names.map((name): [string, tfjs.Tensor] => [name, tf.sum(named(own, name), 0)]),
    ]),
    rowGradient: rows,
    queryLosses: direct.losses,
    supportLosses,
  });
  if (support === null || names.length === 0)
    return result(direct.blocks, direct.dense, direct.rows);

  const ones = tf.ones<tfjs.Rank.R1>([job.taskCount]);
  const gradientNodes = (rows: RowsWithTrunk): tfjs.Tensor[] => {
    const { scaledGradients } = supportGradient(rows, blocks, ones);
    return names.map((name) => named(scaledGradients, name));
  };
  const known = withTrunk(support);
  const inputs = { blocks: Object.fromEntries(blocks) };
  const solution = conjugateGradients(tf, direct.blocks, iterationCount, (along) => {
    const weighted = names.map((name) => named(along, name));
    const product = gradientsOf(tf, () => gradientNodes(known), inputs, weighted).gradients.blocks;
    return sumOf(tf, along, product, 1 / proximalWeight);
  });
  const cross = gradientsOf(
    tf,
    () => gradientNodes(withTrunk(support)),
    learnedInputs(job),
    names.map((name) => tf.mul(named(solution, name), -1 / proximalWeight)),
  ).gradients;
  const rows = sumOf(tf, packGroup(direct.rows), cross.rows, 1);
  return result(solution, sumOf(tf, direct.dense, cross.dense, 1), packIn(rows));
}

/** `terms + factor * others`, by name; an absent tensor counts as 0. */
function sumOf(
  tf: typeof tfjs,
  terms: TensorsByName,
  others: TensorsByName,
  factor: number,
): TensorsByName {
  const sum: Record<string, tfjs.Tensor> = { ...terms };
  for (const [name, other] of Object.entries(others)) {
    const scaled = factor === 1 ? other : tf.mul(other, factor);
    sum[name] = sum[name] === undefined ? scaled : tf.add(sum[name], scaled);
  }
  return sum;
}

/**
 * Approximates x with `multiply(x) = right`, starting from 0. A task that is solved, or whose right
 * side is 0, does not move, nor does one along a direction of negative curvature, which has no minimum.
 */
function conjugateGradients(
  tf: typeof tfjs,
  right: TensorsByName,
  iterationCount: number,
  multiply: (x: TensorsByName) => TensorsByName,
): TensorsByName {
  const names = Object.keys(right);
  /** `[taskCount]` */
  const dot = (a: TensorsByName, b: TensorsByName): tfjs.Tensor =>
    names
      .map((name) => {
        const product = tf.mul(named(a, name), named(b, name));
        return tf.sum(
          product,
          Array.from({ length: product.rank - 1 }, (_, axis) => axis + 1),
        );
      })
      .reduce((sum, term) => tf.add(sum, term));
  /** `a + factors * b` */
  const along = (a: TensorsByName, factors: tfjs.Tensor, b: TensorsByName): TensorsByName =>
    Object.fromEntries(
      names.map((name) => {
        const term = named(b, name);
        const scaled = tf.mul(term, byTask(tf, factors, term.rank));
        return [name, tf.add(named(a, name), scaled)];
      }),
    );
  let x: TensorsByName = Object.fromEntries(
    names.map((name) => [name, tf.zerosLike(named(right, name))]),
  );
  let residual = right;
  let direction = right;
  let square = dot(residual, residual);
  for (let iteration = 0; iteration < iterationCount; iteration += 1) {
    const product = multiply(direction);
    const length = tf.divNoNan(square, tf.relu(dot(direction, product)));
    x = along(x, length, direction);
    residual = along(residual, tf.neg(length), product);
    const next = dot(residual, residual);
    direction = along(residual, tf.divNoNan(next, square), direction);
    square = next;
  }
  return x;
}
