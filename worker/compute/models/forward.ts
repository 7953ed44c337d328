/**
 * A model's forward pass, `logit = bias + its terms`, cut in two: the trunk pass computes once per
 * batch whatever shared parameters alone decide, and the personal pass, which inner steps run and
 * differentiate, the rest (`fields.ts`).
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { ForwardFrame, Staged, Piece } from '../../../shared/models/kinds/model-definition.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import type { Engine } from '../engine/load-engine.js';
import { INPUT_MASK, placeCountsOf, type BatchTensors } from './device-tasks.js';
import {
  type FieldSource,
  type ModelPlan,
  type FieldGroup,
  fieldGroups,
  personalStage,
  trunkStage,
  type StagedPass,
  type TrunkPass,
  type Variables,
} from './fields.js';
import { fieldSums, productOfRows } from '../engine/kernels.js';
import { at } from '../../../shared/base/arrays.js';
import { factorisedPairs, type ModelSpec } from '../../../shared/models/model-spec.js';

/** The name by which a trunk pass hands over the sum of the shared terms. */
export const TRUNK_LOGITS = 'logits';

/**
 * Everything that shared parameters alone decide for a batch, by task; `logits` is the sum of the
 * shared terms.
 */
export function trunkPass(engine: Engine, plan: ModelPlan, source: FieldSource): TrunkPass {
  const { tf } = engine;
  const { taskCount, rowExtent } = placeCountsOf(source.data);
  const byTask: [number, number] = [taskCount, rowExtent];
  const { pass, handedOver } = trunkStage(tf, plan.personal, source.trunk, byTask);
  const terms = termsOf(engine, plan, pass, source).filter(isShared);
  const logits =
    terms.length === 0
      ? tf.zeros<tfjs.Rank.R2>(byTask)
      : tf.reshape<tfjs.Rank.R2>(sumOf(tf, terms), byTask);
  const bias = pass.variable('bias');
  return {
    ...handedOver,
    [TRUNK_LOGITS]: isShared(bias) ? tf.add(logits, bias.tensor()) : logits,
  };
}

interface PersonalSource {
  readonly trunkPass: TrunkPass;
  /** The shared variables above the first personal block. */
  readonly trunk: Variables;
  readonly personal: Variables;
}

/** The logits `[taskCount, rowExtent]` of each task under its own variables. */
export function personalPass(
  engine: Engine,
  plan: ModelPlan,
  { trunkPass: handedOver, trunk, personal }: PersonalSource,
): tfjs.Tensor2D {
  const pass = personalStage(plan.personal, handedOver, trunk, personal);
  const logits = pass.ofRows(TRUNK_LOGITS, () => {
    throw new Error('the trunk pass hands over the logits');
  });
  const terms = [...termsOf(engine, plan, pass, null), pass.variable('bias')];
  return sumOf(engine.tf, [logits, ...terms.filter((term) => !isShared(term))]) as tfjs.Tensor2D;
}

/** The model's terms of the logit beside its bias. */
function termsOf(
  engine: Engine,
  plan: ModelPlan,
  pass: StagedPass,
  source: FieldSource | null,
): readonly Staged[] {
  const frame = modelFrameOf(engine, plan, pass, source);
  return MODELS.get(plan.spec.kind).forward(forwardFrameOf(frame));
}

function forwardFrameOf(frame: ModelFrame): ForwardFrame {
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

function isShared({ stage }: Staged): boolean {
  return stage !== 'personal';
}

function sumOf(tf: typeof tfjs, terms: readonly Staged[]): tfjs.Tensor {
  return terms.map(({ tensor }) => tensor()).reduce((sum, term) => tf.add(sum, term));
}

/** All fields as the pieces of a tower's input. */
function fieldPieces({ spec, groups }: ModelFrame): Piece[] {
  return groups.map(({ values, firstPlace, fieldCount }) => {
    const isMet = Array.from(
      { length: fieldCount },
      (_, index) => !spec.widePlaces.includes(firstPlace + index),
    );
    const metCount = isMet.filter((met) => met).length;
    return { values, isMet, rowCount: metCount * spec.embeddingWidth };
  });
}

/** All field vectors side by side; those that a task has once are repeated for each of its rows. */
function fieldVectors(frame: ModelFrame): Piece {
  const { tf } = frame.engine;
  const { groups, pass, spec } = frame;
  const rowCount = spec.fieldCount * spec.embeddingWidth;
  const values = pass.apply(
    'fieldVectors',
    groups.map((group) => group.values),
    (...all) => {
      const vectors = all.map((fields) => {
        const each = vectorsOf(frame, fields);
        return tf.reshape(each, [...each.shape.slice(0, -2), -1]);
      });
      const rowExtent = Math.max(...vectors.map(({ shape }) => shape[1] ?? 1));
      const byRow = (x: tfjs.Tensor): tfjs.Tensor =>
        x.rank === 3 && x.shape[1] !== rowExtent ? tf.tile(x, [1, rowExtent, 1]) : x;
      return vectors.length === 1 && vectors[0] !== undefined
        ? vectors[0]
        : tf.concat(vectors.map(byRow), -1);
    },
  );
  return { values, rowCount, areOfFields: true };
}

/** The last hidden layer, with its dropped units at 0, as one piece; the input itself if there is none. */
function hiddenLayers(frame: ModelFrame, input: readonly Piece[]): readonly Piece[] {
  const { engine, pass, spec } = frame;
  let pieces = keptInput(frame, input);
  for (const [index, rowCount] of spec.options.hiddenWidths.entries()) {
    const name = `layer${index}`;
    const weighted = productWith(frame, pieces, `${name}.weight`);
    const biased = withBias(frame, weighted, `${name}.bias`);
    const active = pass.apply(`${name}.activation`, [biased], engine.kernels.relu);
    const mask = frame.unitMask(name);
    const values =
      mask === null
        ? active
        : pass.apply(`${name}.kept`, [active, mask], (x, m) => engine.tf.mul(x, m));
    pieces = [{ values, rowCount }];
  }
  return pieces;
}

/** The input of the first hidden layer, with the dropped values of its fields at 0. */
function keptInput(frame: ModelFrame, input: readonly Piece[]): readonly Piece[] {
  const { engine, pass, spec } = frame;
  if (spec.options.hiddenWidths.length === 0) return input;
  let start = 0;
  return input.map((piece, place) => {
    const count = droppedExtentOf(piece, spec);
    if (count === 0) return piece;
    const mask = frame.unitMask(INPUT_MASK, { start, count });
    start += count;
    if (mask === null) return piece;
    const values = pass.apply(`input${place}.kept`, [piece.values, mask], (x, m) =>
      engine.tf.mul(piece.isMet === undefined ? x : besideEachOther(frame, x), m),
    );
    return { ...piece, values };
  });
}

/** The number of values of a piece that may be dropped: products of fields never are. */
function droppedExtentOf(
  { isMet, areOfFields, rowCount }: Piece,
  { tableRowWidth }: ModelFrame['spec'],
): number {
  if (isMet !== undefined) return isMet.length * tableRowWidth;
  return areOfFields === true ? rowCount : 0;
}

/** The output layer's term of the logit, `[..]`. */
function outputTerm(frame: ModelFrame, input: readonly Piece[]): Staged {
  const { tf } = frame.engine;
  const weighted = productWith(frame, input, 'output.weight');
  return frame.pass.apply('output', [weighted], (x) => tf.reshape(x, x.shape.slice(0, -1)));
}

function withBias({ engine: { tf }, pass }: ModelFrame, x: Staged, name: string): Staged {
  const bias = pass.variable(name);
  const isPersonal = bias.stage === 'personal';
  return pass.apply(`${name}.added`, [x, bias], (a, b) =>
    tf.add(a, isPersonal ? tf.expandDims(b, 1) : b),
  );
}

/**
 * `[.., out]`: the concatenated pieces times the weights `[(taskCount,) in, out]`. It is the sum of the products with
 * the pieces, so the product with a shared piece is computed once, whatever else differs by task.
 */
function productWith(frame: ModelFrame, pieces: readonly Piece[], name: string): Staged {
  const { engine, pass } = frame;
  const met = pieces.filter(({ rowCount }) => rowCount > 0);
  const weights = weightsByPiece(frame, met, name);
  const products = met.map(({ values }, index) =>
    pass.apply(`${name}.product${index}`, [values, weights(index)], (x, w) =>
      product(engine, besideEachOther(frame, x), w),
    ),
  );
  const [first] = products;
  if (first === undefined) throw new Error(`${name} has no input`);
  if (products.length === 1) return first;
  return pass.apply(`${name}.product`, products, (...all) =>
    all.reduce((sum, term) => engine.tf.add(sum, term)),
  );
}

/** The rows of the weights for each piece, widened to the columns of the piece. */
function weightsByPiece(
  frame: ModelFrame,
  pieces: readonly Piece[],
  name: string,
): (index: number) => Staged {
  const { tf } = frame.engine;
  const weight = frame.pass.variable(name);
  // Fields come first and are widened together.
  const fields = pieces.filter(({ isMet }) => isMet !== undefined);
  const fieldRowCount = fields.reduce((sum, { rowCount }) => sum + rowCount, 0);
  const isMet = fields.flatMap((piece) => piece.isMet ?? []);
  const wide = frame.pass.apply(`${name}.wide`, [weight], (w) =>
    widened(frame, rowsOf(tf, w, 0, fieldRowCount), isMet),
  );
  let wideRow = 0;
  let row = fieldRowCount;
  const parts = pieces.map((piece, index) => {
    const isField = piece.isMet !== undefined;
    const count = isField ? piece.isMet.length * frame.spec.tableRowWidth : piece.rowCount;
    const start = isField ? wideRow : row;
    if (isField) wideRow += count;
    else row += count;
    return frame.pass.apply(`${name}.rows${index}`, [isField ? wide : weight], (w) =>
      rowsOf(tf, w, start, count),
    );
  });
  return (index) => parts[index] ?? weight;
}

/** Rows of `[.., in, out]`. A slice for each part, since the gradient of a split needs all parts. */
function rowsOf(tf: typeof tfjs, weight: tfjs.Tensor, start: number, count: number): tfjs.Tensor {
  const [rowCount = 0, out = 0] = weight.shape.slice(-2);
  if (count === rowCount) return weight;
  const lead = weight.shape.slice(0, -2);
  return tf.slice(weight, [...lead.map(() => 0), start, 0], [...lead, count, out]);
}

/** Weights of field vectors, with zeros for linear terms and for fields that the layer does not read. */
function widened(
  { engine: { tf }, spec }: ModelFrame,
  weight: tfjs.Tensor,
  isMet: readonly boolean[],
): tfjs.Tensor {
  const { embeddingWidth, tableRowWidth } = spec;
  if (tableRowWidth === embeddingWidth && isMet.every((met) => met)) return weight;
  const [rowCount = 0, out = 0] = weight.shape.slice(-2);
  const lead = weight.shape.slice(0, -2);
  const none: [number, number] = [0, 0];
  const fields = tf.reshape(weight, [...lead, rowCount / embeddingWidth, embeddingWidth, out]);
  const paddings = [...lead.map(() => none), none, [0, tableRowWidth - embeddingWidth], none];
  const wide = spread(tf, tf.pad(fields, paddings as [number, number][]), isMet);
  return tf.reshape(wide, [...lead, isMet.length * tableRowWidth, out]);
}

/** `[.., metCount, width, out]` with zeros inserted for fields that are not read: `[.., count, width, out]`. */
function spread(tf: typeof tfjs, met: tfjs.Tensor, isMet: readonly boolean[]): tfjs.Tensor {
  if (isMet.every((is) => is)) return met;
  const lead = met.shape.slice(0, -3);
  const block = [...lead, 1, ...met.shape.slice(-2)];
  let next = 0;
  const blocks = isMet.map((is) => {
    if (!is) return tf.zeros(block);
    const begin = block.map((_, axis) => (axis === lead.length ? next : 0));
    next += 1;
    return tf.slice(met, begin, block);
  });
  return tf.concat(blocks, lead.length);
}

/** `[.., in]` by shared weights `[in, out]`, or `[taskCount, rows, in]` by `[taskCount, in, out]`. */
function product({ tf }: Engine, x: tfjs.Tensor, weight: tfjs.Tensor): tfjs.Tensor {
  if (weight.rank === 3 && x.shape[1] === 1 && lastExtentOf(weight) === 1)
    return productOfRows(tf, x, weight);
  if (weight.rank === 3 || x.rank === 2) return tf.matMul(x, weight);
  const [taskCount = 0, rowCount = 0, width = 0] = x.shape;
  const flat = tf.matMul(tf.reshape(x, [taskCount * rowCount, width]), weight);
  return tf.reshape(flat, [taskCount, rowCount, lastExtentOf(weight)]);
}

/**
 * The term linear(x) + 0.5 sum_k ((sum_f e_fk)^2 - sum_f e_fk^2), f over the factorised fields. No term
 * if the model has neither part.
 */
function linearAndFactorised(
  frame: ModelFrame,
  { isFactorised }: { readonly isFactorised: boolean },
): Staged[] {
  const { engine, spec, pass, groups } = frame;
  if (groups.length === 0 || (!spec.hasLinear && !isFactorised)) return [];
  const sums = groups.map((group) =>
    pass.apply(`sums.${group.name}`, [group.values], (x) => {
      const fields = isFactorised ? maskedFields(frame, group, x) : byField(frame, x);
      const perColumn = fieldSums(engine.tf, flatLead(frame, fields));
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
function interactionsByField(frame: ModelFrame): Piece[] {
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
function weightedInteractions(frame: ModelFrame, firstRow: number): Staged[] {
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

/** Fields, variables and staged values: the state behind the operations that models are handed. */
interface ModelFrame {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly pass: StagedPass;
  /** All fields, in order. */
  readonly groups: readonly FieldGroup[];
  /** Factors of a layer's units, or of a range of them; null where none are dropped. */
  readonly unitMask: (layer: string, range?: UnitRange) => Staged | null;
}

function modelFrameOf(
  engine: Engine,
  plan: ModelPlan,
  pass: StagedPass,
  source: FieldSource | null,
): ModelFrame {
  return {
    engine,
    spec: plan.spec,
    pass,
    groups: fieldGroups(engine, plan, pass, source),
    unitMask: (layer, range) => {
      if (!plan.maskedLayers.has(layer)) return null;
      const maskIn = (): tfjs.Tensor2D => unitMaskIn(source?.data, layer);
      if (range === undefined) return pass.ofRows(`${layer}.mask`, maskIn);
      const { start, count } = range;
      return pass.ofRows(`${layer}.mask${start}`, () => {
        const mask = maskIn();
        return engine.tf.slice(mask, [0, start], [mask.shape[0], count]);
      });
    },
  };
}

interface UnitRange {
  readonly start: number;
  readonly count: number;
}

function unitMaskIn(data: BatchTensors | undefined, layer: string): tfjs.Tensor2D {
  const mask = data?.unitMasks?.[layer];
  if (mask === undefined) throw new Error(`the rows have no mask of ${layer}`);
  return mask;
}

/** The values of a group of fields as `[.., fieldCount, width]`. */
function byField({ engine, spec }: ModelFrame, fields: tfjs.Tensor): tfjs.Tensor {
  if (fields.rank === 4) return fields;
  const width = spec.tableRowWidth;
  const lead = fields.shape.slice(0, -1);
  return engine.tf.reshape(fields, [...lead, lastExtentOf(fields) / width, width]);
}

/** The values of a group of fields as `[.., fieldCount * width]`. */
function besideEachOther({ engine: { tf } }: ModelFrame, fields: tfjs.Tensor): tfjs.Tensor {
  if (fields.rank < 4) return fields;
  const [taskCount = 0, rowExtent = 0, fieldCount = 0, width = 0] = fields.shape;
  return tf.reshape(fields, [taskCount, rowExtent, fieldCount * width]);
}

/** Field vectors without linear terms: `[.., fieldCount, embeddingWidth]`. */
function vectorsOf(frame: ModelFrame, fields: tfjs.Tensor): tfjs.Tensor {
  const { embeddingWidth, hasLinear } = frame.spec;
  const whole = byField(frame, fields);
  if (!hasLinear) return whole;
  const extents = [...whole.shape.slice(0, -1), embeddingWidth];
  return frame.engine.tf.slice(
    whole,
    extents.map(() => 0),
    extents,
  );
}

function lastExtentOf({ shape }: tfjs.Tensor): number {
  return shape[shape.length - 1] ?? 1;
}

/** `[.., n, width]` with all leading axes as one. */
function flatLead({ engine: { tf } }: ModelFrame, x: tfjs.Tensor): tfjs.Tensor3D {
  const [rows = 1, columns = 1] = x.shape.slice(-2);
  return tf.reshape<tfjs.Rank.R3>(x, [x.size / (rows * columns), rows, columns]);
}
