/** Linear terms and factorisation machines over fields. */

import type * as tfjs from '@tensorflow/tfjs';
import type { FieldGroup } from './fields.js';
import type { Piece } from './layers.js';
import { fieldSums } from './lean-operations.js';
import { byField, flatLead, vectorsOf, type ModelFrame } from './model-frame.js';
import { selectColumns } from './select-columns.js';
import type { Staged } from './staged-pass.js';

/**
 * The term linear(x) + 0.5 sum_k ((sum_f e_fk)^2 - sum_f e_fk^2), f over the factorised fields; as
 * far as the model has it: none where it has neither.
 */
export function linearAndFactorised(
  frame: ModelFrame,
  { isFactorised }: { readonly isFactorised: boolean },
): Staged[] {
  const { engine, spec, pass, groups } = frame;
  if (groups.length === 0 || (!spec.hasLinear && !isFactorised)) return [];
  const sums = groups.map((group) =>
    pass.apply(`sums.${group.name}`, [group.values], (x) => {
      const fields = isFactorised ? maskedFields(frame, group, x) : byField(frame, x);
      const perColumn = fieldSums(engine, flatLead(frame, fields));
      return engine.tf.reshape(perColumn, [...fields.shape.slice(0, -2), 2 * spec.tableRowWidth]);
    }),
  );
  const term = pass.apply('interactions', sums, (...all) =>
    logitOfSums(
      frame,
      all.reduce((sum, other) => engine.tf.add(sum, other)),
      isFactorised,
    ),
  );
  return [term];
}

/** Fields `[.., fieldCount, width]` with zeros for the factors of those that are not factorised. */
function maskedFields(frame: ModelFrame, group: FieldGroup, fields: tfjs.Tensor): tfjs.Tensor {
  const { tf } = frame.engine;
  const { embeddingWidth, tableRowWidth } = frame.spec;
  const isFactorised = factorisedIn(frame, group);
  const whole = byField(frame, fields);
  if (isFactorised.every((is) => is)) return whole;
  const mask = isFactorised.flatMap((is) =>
    Array.from({ length: tableRowWidth }, (_, column) => (is || column >= embeddingWidth ? 1 : 0)),
  );
  return tf.mul(whole, tf.tensor2d(mask, [group.fieldCount, tableRowWidth]));
}

/** By field of the group. */
export function factorisedIn({ spec }: ModelFrame, group: FieldGroup): boolean[] {
  return Array.from({ length: group.fieldCount }, (_, index) =>
    spec.factorisedPlaces.includes(group.firstPlace + index),
  );
}

/** Logit terms `[..]` of column sums `[.., 2 * width]`: factor products and linear terms. */
function logitOfSums(
  { engine: { tf }, spec }: ModelFrame,
  sums: tfjs.Tensor,
  isFactorised: boolean,
): tfjs.Tensor {
  const { tableRowWidth: width, embeddingWidth } = spec;
  const half = Array.from({ length: width }, (_, column) =>
    isFactorised && column < embeddingWidth ? 0.5 : 0,
  );
  const linear = half.map((_, column) => (column < embeddingWidth ? 0 : 1));
  const [sum, squares] = tf.split(sums, 2, -1);
  if (sum === undefined || squares === undefined) throw new Error('split in two');
  // sum * (sum / 2 + linear) - squares / 2 in one product per column.
  const columns = tf.sub(
    tf.mul(sum, tf.add(tf.mul(sum, tf.tensor1d(half)), tf.tensor1d(linear))),
    tf.mul(squares, tf.tensor1d(half)),
  );
  return tf.sum(columns, -1);
}

/**
 * x_f = <e_f, S - e_f> of each factorised field, S the sum over all fields: pieces of a layer's
 * input, `[.., fieldCount]` by group.
 */
export function interactionsByField(frame: ModelFrame): Piece[] {
  const { engine, pass, groups } = frame;
  const { tf } = engine;
  const sums = groups.map(({ name, values }) =>
    pass.apply(`vectorSum.${name}`, [values], (x) => tf.sum(vectorsOf(frame, x), -2)),
  );
  const total = pass.apply('vectorSum', sums, (...all) =>
    all.reduce((sum, other) => tf.add(sum, other)),
  );
  return groups.flatMap((group): Piece[] => {
    const columns = factorisedIn(frame, group).flatMap((is, index) => (is ? [index] : []));
    if (columns.length === 0) return [];
    const values = pass.apply(`byField.${group.name}`, [group.values, total], (x, sum) => {
      const vectors = vectorsOf(frame, x);
      const others = tf.sub(tf.expandDims(sum, -2), vectors);
      return selectColumns(engine, tf.sum(tf.mul(vectors, others), -1), columns);
    });
    return [{ values, rowCount: columns.length }];
  });
}
