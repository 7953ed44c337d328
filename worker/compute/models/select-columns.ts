/** Selects and spreads columns of a matrix. */

import { at } from '../../../shared/base/arrays.js';
import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../engine/load-engine.js';

/** Columns `columns` of `x` `[.., width]`, in that order, each at most once: `[.., columns.length]`. */
export function selectColumns(
  { tf, kernels }: Engine,
  x: tfjs.Tensor,
  columns: readonly number[],
): tfjs.Tensor {
  const lead = x.shape.slice(0, -1);
  const width = at(x.shape, x.rank - 1);
  const first = at(columns, 0);
  if (columns.every((column, index) => column === first + index))
    return columns.length === width
      ? x
      : tf.slice(x, [...lead.map(() => 0), first], [...lead, columns.length]);
  const flat = tf.reshape<tfjs.Rank.R2>(x, [x.size / width, width]);
  return tf.reshape(kernels.selectColumns(flat, columns), [...lead, columns.length]);
}

/** The inverse: column i of `x` `[.., columns.length]` at `columns[i]` of `[.., width]`, zeros elsewhere. */
export function spreadColumns(
  { tf, kernels }: Engine,
  x: tfjs.Tensor,
  columns: readonly number[],
  width: number,
): tfjs.Tensor {
  if (columns.length === width) return x;
  const flat = tf.reshape<tfjs.Rank.R2>(x, [x.size / columns.length, columns.length]);
  const wide = kernels.spreadColumns(flat, columns, width);
  return tf.reshape(wide, [...x.shape.slice(0, -1), width]);
}
