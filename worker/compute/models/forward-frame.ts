/** The operations that a model's forward pass is written in, over the state of one pass. */

import type { ForwardFrame, Piece } from '../../../shared/models/kinds/forward-frame.js';
import {
  interactionsByField,
  linearAndFactorised,
  weightedInteractions,
  factorisedIn,
} from './interactions.js';
import {
  fieldPieces,
  fieldVectors,
  hiddenLayers,
  outputTerm,
  productWith,
  withBias,
} from './layers.js';
import { type ModelFrame, flatLead, vectorsOf } from './model-frame.js';
import { at } from '../../../shared/base/arrays.js';
import type * as tfjs from '@tensorflow/tfjs';
import type { FieldGroup } from './fields.js';
import { selectColumns } from './select-columns.js';

export function forwardFrameOf(frame: ModelFrame): ForwardFrame {
  const { engine, spec, pass } = frame;
  return {
    tf: engine.tf,
    options: spec.options,
    fields: spec,
    linear: () => linearAndFactorised(frame, { isFactorised: false }),
    linearAndPairs: () => linearAndFactorised(frame, { isFactorised: true }),
    weightedInteractions: (firstRow) => weightedInteractions(frame, firstRow),
    outputTerm: (input) => outputTerm(frame, input),
    fieldPieces: () => fieldPieces(frame),
    fieldVectors: () => fieldVectors(frame),
    interactionsByField: () => interactionsByField(frame),
    innerProducts: () => innerProducts(frame),
    outerProduct: () => outerProduct(frame),
    hiddenLayers: (input) => hiddenLayers(frame, input),
    product: (input, weights) => productWith(frame, input, weights),
    withBias: (x, bias) => withBias(frame, x, bias),
    variable: pass.variable,
    apply: pass.apply,
  };
}

/**
 * <e_f, e_g> of every two factorised fields, ordered by the kind of g (feature with a table, number,
 * adgroup embedding), then by the kind of f, then by place. Each pair of groups is a piece, computed as
 * one batched product. Products of shared fields have the first rows of the weights, whatever is
 * personal.
 */
function innerProducts(frame: ModelFrame): Piece[] {
  return frame.groups.flatMap((later, index) =>
    frame.groups.slice(0, index + 1).flatMap((earlier): Piece[] => {
      const columns = pairColumns(frame, earlier, later);
      if (columns.length === 0) return [];
      const values = frame.pass.apply(
        `inner.${earlier.name}.${later.name}`,
        earlier === later ? [later.values] : [earlier.values, later.values],
        (a, b = a) => pairProducts(frame, a, b, columns),
      );
      return [{ values, rowCount: columns.length }];
    }),
  );
}

/** Indices of the factorised pairs in a table `[earlier field, later field]`, flattened by row. */
function pairColumns(frame: ModelFrame, earlier: FieldGroup, later: FieldGroup): number[] {
  const rows = factorisedIn(frame, earlier);
  const columns = factorisedIn(frame, later);
  const kind = (place: number): number => kindOf(frame, place);
  const pairs = rows.flatMap((isRow, row) =>
    columns.flatMap((isColumn, column) => {
      const [f, g] = [earlier.firstPlace + row, later.firstPlace + column];
      return isRow && isColumn && f < g
        ? [{ column: row * later.fieldCount + column, order: 3 * kind(g) + kind(f) }]
        : [];
    }),
  );
  return pairs.sort((a, b) => a.order - b.order).map(({ column }) => column);
}

function kindOf({ spec }: ModelFrame, place: number): number {
  const tableCount = spec.categoryFeatures.length + spec.bagFeatures.length;
  if (place < tableCount) return 0;
  return place < tableCount + spec.numberFeatures.length ? 1 : 2;
}

/** `[.., columns.length]` of fields `[.., m * width]` and `[.., n * width]`. */
function pairProducts(
  frame: ModelFrame,
  earlier: tfjs.Tensor,
  later: tfjs.Tensor,
  columns: readonly number[],
): tfjs.Tensor {
  const { tf } = frame.engine;
  const a = vectorsOf(frame, earlier);
  const b = vectorsOf(frame, later);
  const [fieldCount = 0] = a.shape.slice(-2);
  const lead = a.shape.slice(0, -2);
  const isOncePerTask = a.rank === 4 && b.rank === 4 && a.shape[1] !== b.shape[1];
  // A field that a task has once is multiplied with all rows of the task at once.
  const rows = isOncePerTask
    ? tf.reshape<tfjs.Rank.R3>(a, [a.shape[0], -1, frame.spec.embeddingWidth])
    : flatLead(frame, a);
  const table = tf.matMul(rows, flatLead(frame, b), false, true);
  const laterCount = at(b.shape, b.rank - 2);
  const flat = tf.reshape(table, [...lead, fieldCount * laterCount]);
  return selectColumns(frame.engine, flat, columns);
}

/** (sum_f e_f)(sum_f e_f)' over the factorised fields, row by row: one piece of width^2. */
function outerProduct(frame: ModelFrame): Piece[] {
  const { engine, pass, spec, groups } = frame;
  const { tf } = engine;
  const sums = groups.flatMap((group) => {
    const isFactorised = factorisedIn(frame, group);
    if (!isFactorised.includes(true)) return [];
    return [
      pass.apply(`outer.sum.${group.name}`, [group.values], (x) => {
        const vectors = vectorsOf(frame, x);
        const mask = tf.tensor2d(isFactorised.map(Number), [group.fieldCount, 1]);
        return tf.sum(isFactorised.includes(false) ? tf.mul(vectors, mask) : vectors, -2);
      }),
    ];
  });
  const values = pass.apply('outer', sums, (...all) => {
    const sum = all.reduce((total, other) => tf.add(total, other));
    const product = tf.mul(tf.expandDims(sum, -1), tf.expandDims(sum, -2));
    return tf.reshape(product, [...sum.shape.slice(0, -1), spec.embeddingWidth ** 2]);
  });
  return [{ values, rowCount: spec.embeddingWidth ** 2 }];
}
