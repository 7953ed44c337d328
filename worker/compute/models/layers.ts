/**
 * Layers over inputs in several pieces. A layer's product with the whole input is the sum of its
 * products with the pieces, so the product with a shared piece is computed once, whatever else differs
 * by task.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Piece, Staged } from '../../../shared/models/kinds/forward-frame.js';
import type { Engine } from '../engine/load-engine.js';
import { INPUT_MASK } from './device-tasks.js';
import { besideEachOther, lastExtentOf, vectorsOf, type ModelFrame } from './model-frame.js';

/** All fields as the pieces of a tower's input. */
export function fieldPieces({ spec, groups }: ModelFrame): Piece[] {
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
export function fieldVectors(frame: ModelFrame): Piece {
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
export function hiddenLayers(frame: ModelFrame, input: readonly Piece[]): readonly Piece[] {
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
export function outputTerm(frame: ModelFrame, input: readonly Piece[]): Staged {
  const { tf } = frame.engine;
  const weighted = productWith(frame, input, 'output.weight');
  return frame.pass.apply('output', [weighted], (x) => tf.reshape(x, x.shape.slice(0, -1)));
}

export function withBias({ engine: { tf }, pass }: ModelFrame, x: Staged, name: string): Staged {
  const bias = pass.variable(name);
  const isPersonal = bias.stage === 'personal';
  return pass.apply(`${name}.added`, [x, bias], (a, b) =>
    tf.add(a, isPersonal ? tf.expandDims(b, 1) : b),
  );
}

/** `[.., out]`: the concatenated pieces times the weights `[(taskCount,) in, out]`. */
export function productWith(frame: ModelFrame, pieces: readonly Piece[], name: string): Staged {
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
export function rowsOf(
  tf: typeof tfjs,
  weight: tfjs.Tensor,
  start: number,
  count: number,
): tfjs.Tensor {
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
  if (weight.rank === 3 || x.rank === 2) return tf.matMul(x, weight);
  const [taskCount = 0, rowCount = 0, width = 0] = x.shape;
  const flat = tf.matMul(tf.reshape(x, [taskCount * rowCount, width]), weight);
  return tf.reshape(flat, [taskCount, rowCount, lastExtentOf(weight)]);
}
