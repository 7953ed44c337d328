/**
 * Replaces gradients of the library that record more operations than needed: the gradient of a tiling
 * is a slice and an addition per tile, that of a sum a product with ones, that of a product casts
 * floats to floats, and broadcasting adds a reshape that changes nothing.
 *
 * The replacement holds for the whole process and for every backend. Each gradient consists of
 * differentiable operations on dy and saved inputs, so it can be differentiated again. None saves an
 * output: the library does not connect saved outputs, so a second derivative would silently be zero.
 * Its own gradients that do so are replaced as well.
 */

import { at } from '../../../shared/base/arrays.js';
import type * as tfjs from '@tensorflow/tfjs';

type Tensor = tfjs.Tensor;
/** Functions that compute the gradient, by name of the input. */
type Gradients = Record<string, () => Tensor>;
type Gradient = (
  dy: Tensor,
  saved: readonly Tensor[],
  attributes: Readonly<Record<string, unknown>>,
) => Gradients;
type Register = (kernelName: string, saved: string[] | 'all', gradient: Gradient) => void;

/** Idempotent. */
export function registerLeanGradients(tf: typeof tfjs): void {
  const register: Register = (kernelName, saved, gradient) => {
    tf.registerGradient({
      kernelName,
      ...(saved === 'all' ? { saveAllInputs: true } : { inputsToSave: saved }),
      // Each of these kernels has one output, hence one dy.
      gradFunc: (dy, tensors, attributes) => gradient(dy as Tensor, tensors, attributes),
    });
  };
  register('Add', ['a', 'b'], (dy, saved) => ({
    a: () => sumToShape(tf, dy, shapeOf(saved, 0)),
    b: () => sumToShape(tf, dy, shapeOf(saved, 1)),
  }));
  register('Sub', ['a', 'b'], (dy, saved) => ({
    a: () => sumToShape(tf, dy, shapeOf(saved, 0)),
    b: () => tf.neg(sumToShape(tf, dy, shapeOf(saved, 1))),
  }));
  register('Multiply', ['a', 'b'], (dy, saved) => ({
    a: () => sumToShape(tf, tf.mul(dy, floatOf(tf, saved, 1)), shapeOf(saved, 0)),
    b: () => sumToShape(tf, tf.mul(dy, floatOf(tf, saved, 0)), shapeOf(saved, 1)),
  }));
  register('Square', ['x'], (dy, saved) => ({
    x: () => {
      const x = floatOf(tf, saved, 0);
      return tf.mul(dy, tf.add(x, x));
    },
  }));
  register('Sum', ['x'], (dy, saved, { axis }) => ({
    x: () => {
      const shape = shapeOf(saved, 0);
      return repeatAlongAxes(tf, dy, shape, axesOf(axis, shape.length));
    },
  }));
  register('Tile', ['x'], (dy, saved, { reps }) => ({
    x: () => sumOfTiles(tf, dy, shapeOf(saved, 0), reps as readonly number[]),
  }));
  register('Reshape', ['x'], (dy, saved) => ({ x: () => reshaped(tf, dy, shapeOf(saved, 0)) }));
  register('ExpandDims', ['input'], (dy, saved) => ({
    input: () => reshaped(tf, dy, shapeOf(saved, 0)),
  }));
  register('Identity', [], (dy) => ({ x: () => tf.clone(dy) }));
  register('Concat', 'all', (dy, inputs, { axis }) => slicesOf(tf, dy, inputs, axis));
  registerTwiceDifferentiable(tf, register);
}

/** The library's formulas, with the output computed again. A captured graph computes it once. */
function registerTwiceDifferentiable(tf: typeof tfjs, register: Register): void {
  register('Sigmoid', ['x'], (dy, saved) => ({
    x: () => {
      const y = tf.sigmoid(savedAt(saved, 0));
      return tf.mul(dy, tf.mul(y, tf.sub(1, y)));
    },
  }));
  register('Tanh', ['x'], (dy, saved) => ({
    x: () => tf.mul(tf.sub(1, tf.square(tf.tanh(savedAt(saved, 0)))), dy),
  }));
  register('Exp', ['x'], (dy, saved) => ({ x: () => tf.mul(dy, tf.exp(savedAt(saved, 0))) }));
  register('Elu', ['x'], (dy, saved) => ({
    x: () => {
      const below = tf.neg(tf.relu(tf.neg(savedAt(saved, 0))));
      return tf.mul(dy, tf.add(tf.elu(below), 1));
    },
  }));
  register('Softmax', ['logits'], (dy, saved, { dim }) => ({
    logits: () => {
      const y = tf.softmax(savedAt(saved, 0), dim as number);
      const weighted = tf.mul(dy, y);
      return tf.sub(weighted, tf.mul(tf.sum(weighted, dim as number, true), y));
    },
  }));
}

/** A slice for each requested input, instead of a split for all of them. */
function slicesOf(
  tf: typeof tfjs,
  dy: Tensor,
  inputs: readonly Tensor[],
  axis: unknown,
): Gradients {
  const [along = 0] = axesOf(axis, shapeOf(inputs, 0).length);
  const gradients: Gradients = {};
  let start = 0;
  for (const [place, { shape }] of inputs.entries()) {
    const begin = shape.map((_, at) => (at === along ? start : 0));
    gradients[place] = () => tf.slice(dy, begin, shape);
    start += at(shape, along);
  }
  return gradients;
}

function savedAt(saved: readonly Tensor[], place: number): Tensor {
  const tensor = saved[place];
  if (tensor === undefined) throw new Error(`a gradient misses its saved input ${place}`);
  return tensor;
}

function shapeOf(saved: readonly Tensor[], place: number): number[] {
  return savedAt(saved, place).shape;
}

function floatOf(tf: typeof tfjs, saved: readonly Tensor[], place: number): Tensor {
  const tensor = savedAt(saved, place);
  return tensor.dtype === 'float32' ? tensor : tf.cast(tensor, 'float32');
}

/** Never `x` itself, since the library disposes gradients that it has added to others. */
function reshaped(tf: typeof tfjs, x: Tensor, shape: number[]): Tensor {
  return sameShape(x.shape, shape) ? tf.clone(x) : tf.reshape(x, shape);
}

/** The reverse of broadcasting `shape` to that of `dy`; never `dy` itself. */
function sumToShape(tf: typeof tfjs, dy: Tensor, shape: number[]): Tensor {
  const added = dy.rank - shape.length;
  const axes = dy.shape.flatMap((extent, axis) =>
    axis < added || (shape[axis - added] === 1 && extent !== 1) ? [axis] : [],
  );
  if (axes.length === 0) return reshaped(tf, dy, shape);
  // Without dropped axes, axes of extent 1 are kept and no reshape is needed.
  const sum = tf.sum(dy, axes, added === 0);
  return sameShape(sum.shape, shape) ? sum : tf.reshape(sum, shape);
}

/** The reverse of summing `shape` over `axes`. */
function repeatAlongAxes(
  tf: typeof tfjs,
  dy: Tensor,
  shape: number[],
  axes: readonly number[],
): Tensor {
  const extents = shape.map((extent, axis) => (axes.includes(axis) ? 1 : extent));
  if (sameShape(extents, shape)) return reshaped(tf, dy, shape);
  const repeats = shape.map((extent, axis) => (axes.includes(axis) ? extent : 1));
  return tf.tile(sameShape(dy.shape, extents) ? dy : tf.reshape(dy, extents), repeats);
}

/** The reverse of tiling `shape`: one sum, over axes that count the tiles. */
function sumOfTiles(
  tf: typeof tfjs,
  dy: Tensor,
  shape: number[],
  repeats: readonly number[],
): Tensor {
  const extents: number[] = [];
  const tileAxes: number[] = [];
  for (const [axis, extent] of shape.entries()) {
    const repeat = at(repeats, axis);
    if (repeat !== 1) {
      tileAxes.push(extents.length);
      extents.push(repeat);
    }
    // An axis of extent 1 that was tiled is the count of its tiles and nothing else.
    if (repeat === 1 || extent !== 1) extents.push(extent);
  }
  if (tileAxes.length === 0) return tf.clone(dy);
  // Where every tiled axis had extent 1 the axes are those of `shape`, and stay.
  const hasSameAxes = sameShape(dy.shape, extents);
  const sum = tf.sum(hasSameAxes ? dy : tf.reshape(dy, extents), tileAxes, hasSameAxes);
  return sameShape(sum.shape, shape) ? sum : tf.reshape(sum, shape);
}

function axesOf(axis: unknown, rank: number): number[] {
  if (axis === undefined || axis === null) return Array.from({ length: rank }, (_, at) => at);
  const axes = Array.isArray(axis) ? (axis as readonly number[]) : [axis as number];
  return axes.map((at) => (at < 0 ? at + rank : at));
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((extent, axis) => extent === b[axis]);
}
