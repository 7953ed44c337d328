/**
 * Conjugate gradients (Hestenes and Stiefel, 1952) for one symmetric system per task, all tasks at
 * once: every tensor is `[taskCount, ...]`, and tasks are independent.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { byTask } from './inner-loop.js';
import { named, type TensorsByName } from './tensors-by-name.js';

/**
 * Approximates x with `multiply(x) = right`, starting from 0. A task that is solved, or whose right
 * side is 0, does not move, nor does one along a direction of negative curvature, which has no minimum.
 */
export function conjugateGradients(
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
