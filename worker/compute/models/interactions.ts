/** Linear terms, factorisation machines and products over fields. */

import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import type { Piece, Staged } from '../../../shared/models/kinds/forward-frame.js';
import { factorisedPairs } from '../../../shared/models/model-spec.js';
import type { Engine } from '../engine/load-engine.js';
import type { FieldGroup } from './fields.js';
import { rowsOf } from './layers.js';
import { fieldSums } from './lean-operations.js';
import { besideEachOther, byField, flatLead, vectorsOf, type ModelFrame } from './model-frame.js';

/**
 * The term linear(x) + 0.5 sum_k ((sum_f e_fk)^2 - sum_f e_fk^2), f over the factorised fields. No term
 * if the model has neither part.
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

/** Fields `[.., fieldCount, width]` with zeros as the factors of fields that are not factorised. */
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

/** For each field of the group, whether it is factorised. */
function factorisedIn({ spec }: ModelFrame, group: FieldGroup): boolean[] {
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

/**
 * The term sum_f w_f x_f with x_f = <e_f, S - e_f>, f over the factorised fields, S the sum over all of
 * them and w_f a row of the output layer, as
 *
 *   <sum_f w_f e_f, S> - sum_f w_f <e_f, e_f>
 *
 * so that values that differ by task are combined with sums over the fields instead of with every field.
 * No term if no field is factorised.
 *
 * @param firstRow the first row of the output layer's weights to use.
 */
export function weightedInteractions(frame: ModelFrame, firstRow: number): Staged[] {
  const { pass, groups } = frame;
  const { tf } = frame.engine;
  const weight = pass.variable('output.weight');
  let row = firstRow;
  // Linear terms are summed too and multiplied by zeros.
  const sums = groups.map(({ name, values }) =>
    pass.apply(`fieldSum.${name}`, [values], (x) => tf.sum(byField(frame, x), -2)),
  );
  const weighted: Staged[] = [];
  const squares: Staged[] = [];
  for (const group of groups) {
    const { name, values } = group;
    const fields = factorisedIn(frame, group).flatMap((is, field) => (is ? [field] : []));
    if (fields.length === 0) continue;
    const start = row;
    row += fields.length;
    const weights = pass.apply(`byField.weights.${name}`, [weight], (w) =>
      weightsOfFactors(frame, rowsOf(tf, w, start, fields.length), fields, group.fieldCount),
    );
    const scaled = pass.apply(`byField.scaled.${name}`, [values, weights], (x, w) =>
      tf.mul(besideEachOther(frame, x), w),
    );
    weighted.push(
      pass.apply(`byField.weighted.${name}`, [scaled], (x) => tf.sum(byField(frame, x), -2)),
    );
    squares.push(
      pass.apply(`byField.squares.${name}`, [scaled, values], (x, y) =>
        tf.sum(tf.mul(x, besideEachOther(frame, y)), -1),
      ),
    );
  }
  if (weighted.length === 0) return [];
  const parts = [
    totalOf(frame, 'byField.weighted', weighted),
    totalOf(frame, 'fieldSum', sums),
    totalOf(frame, 'byField.squares', squares),
  ];
  return [pass.apply('byField', parts, (a, s, q) => tf.sub(tf.sum(tf.mul(a, s), -1), q))];
}

/** The sum of the values. Those that all tasks share are summed first, which gives a shared value. */
function totalOf(
  { pass, engine: { tf } }: ModelFrame,
  name: string,
  parts: readonly Staged[],
): Staged {
  const add = (...all: tfjs.Tensor[]): tfjs.Tensor =>
    all.reduce((sum, other) => tf.add(sum, other));
  const shared = parts.filter(({ stage }) => stage !== 'personal');
  const own = parts.filter(({ stage }) => stage === 'personal');
  const known = shared.length > 1 ? [pass.apply(`${name}.known`, shared, add)] : shared;
  const [only] = [...known, ...own];
  return only !== undefined && known.length + own.length === 1
    ? only
    : pass.apply(name, [...known, ...own], add);
}

/**
 * Expands the weights of some fields, `[(taskCount,) fields.length, 1]`, to every factor of all fields of a
 * group, `[(taskCount, 1,) fieldCount * width]`, with zeros for linear terms and other fields.
 */
function weightsOfFactors(
  { engine, spec }: ModelFrame,
  weights: tfjs.Tensor,
  fields: readonly number[],
  fieldCount: number,
): tfjs.Tensor {
  const { tf } = engine;
  const { embeddingWidth, tableRowWidth } = spec;
  const lead = weights.shape.slice(0, -2);
  const flat = tf.reshape(weights, [...lead, fields.length]);
  const ofFields = spreadColumns(engine, flat, fields, fieldCount);
  const isFactor = Array.from({ length: tableRowWidth }, (_, column) =>
    column < embeddingWidth ? 1 : 0,
  );
  const byFactor = tf.mul(tf.expandDims(ofFields, -1), tf.tensor1d(isFactor));
  const byTask = lead.length === 0 ? [] : [...lead, 1];
  return tf.reshape(byFactor, [...byTask, fieldCount * tableRowWidth]);
}

/**
 * <e_f, e_g> of every two factorised fields, in the order of `factorisedPairs`. Each pair of groups is a
 * piece, computed as one batched product. Products of shared fields have the first rows of the weights,
 * whatever is personal.
 */
export function innerProducts(frame: ModelFrame): Piece[] {
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
function pairColumns({ spec }: ModelFrame, earlier: FieldGroup, later: FieldGroup): number[] {
  return factorisedPairs(spec).flatMap(([f, g]) => {
    const [row, column] = [f - earlier.firstPlace, g - later.firstPlace];
    const isWithin =
      row >= 0 && row < earlier.fieldCount && column >= 0 && column < later.fieldCount;
    return isWithin ? [row * later.fieldCount + column] : [];
  });
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
export function outerProduct(frame: ModelFrame): Piece[] {
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

/** Columns `columns` of `x` `[.., width]`, in that order, each at most once: `[.., columns.length]`. */
function selectColumns(
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
function spreadColumns(
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
