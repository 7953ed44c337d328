/**
 * Operations and gradients that replace those of the library with needless cost. `tf.gather` reads its indices back into
 * JavaScript, and the gradient of ReLU takes six operations. The gradient of a tiling is a slice and an addition per
 * tile, that of a sum a product with ones, that of a product casts floats to floats, and broadcasting adds a reshape that
 * changes nothing.
 *
 * Replaced gradients hold for the whole process and for every backend. Each gradient consists of differentiable
 * operations on dy and saved inputs, so it can be differentiated again. None saves an output: the library does not
 * connect saved outputs, so a second derivative would silently be zero. Its own gradients that do so are replaced as well.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { nativeBackendOf, type NativeAttribute } from './native-backend.js';
import { at } from '../../../shared/base/arrays.js';

const OPERATION = 'QianmoSumRows';

/**
 * Adds row i of the concatenated `rows`, each `[.., width]`, to row `places[i]` of `[count, width]`,
 * in order of i.
 */
export type RowSums = (
  rows: readonly tfjs.Tensor[],
  places: tfjs.Tensor,
  count: number,
) => tfjs.Tensor;

/** Null if the operation is missing: the addon was not built here, or a GPU, which has no kernel. */
export function nativeRowSums(tf: typeof tfjs): RowSums | null {
  const backend = nativeBackendOf(tf);
  if (backend === null || backend.isUsingGpuDevice) return null;
  const sums: RowSums = (rows, places, count) => {
    const lengths = { name: 'N', type: backend.binding.TF_ATTR_INT, value: rows.length };
    const scalar = tf.scalar(count, 'int32');
    const result = backend.executeSingleOutput(OPERATION, [lengths], [places, scalar, ...rows]);
    scalar.dispose();
    return result;
  };
  return isThere(tf, sums) ? sums : null;
}

/** Tries to run the operation, since the binding does not list the operations that it has. */
function isThere(tf: typeof tfjs, sums: RowSums): boolean {
  try {
    // A tidy does not dispose the tensors that it returns.
    tf.tidy(() => void sums([tf.ones([1, 1])], tf.zeros([1], 'int32'), 1));
    return true;
  } catch {
    return false;
  }
}

type Tensor = tfjs.Tensor;

export interface Kernels {
  /** `TensorFlow 2.21.0, CPU` or the name of the portable backend. */
  readonly device: string;
  /** Rows `index` of `source` `[n, width]`: `[index.length, width]`. Its gradient adds up rows. */
  readonly gatherRows: (source: tfjs.Tensor2D, index: tfjs.Tensor1D) => tfjs.Tensor2D;
  /** Adds row i of `source` to row `segments[i]` of `[segmentCount, width]`. */
  readonly sumSegments: (
    source: tfjs.Tensor2D,
    segments: tfjs.Tensor1D,
    segmentCount: number,
  ) => tfjs.Tensor2D;
  /** Columns of `source` `[n, width]`, each at most once: `[n, columns.length]`. */
  readonly selectColumns: (source: tfjs.Tensor2D, columns: readonly number[]) => tfjs.Tensor2D;
  /** The inverse: column i of `source` at `columns[i]` of `[n, width]`, zeros elsewhere. */
  readonly spreadColumns: (
    source: tfjs.Tensor2D,
    columns: readonly number[],
    width: number,
  ) => tfjs.Tensor2D;
  readonly relu: (x: Tensor) => Tensor;
  /** `[taskCount, ...shape]`: `x` once per task. Its gradient is one sum over the tasks. */
  readonly repeatByTask: (x: Tensor, taskCount: number) => Tensor;
  /** The solutions x of `A x = b` for positive definite `A`: `[count, n, n]` and `[count, n, columns]`. */
  readonly solve: (matrices: tfjs.Tensor3D, columns: tfjs.Tensor3D) => tfjs.Tensor3D;
}

interface RawKernels {
  readonly device: string;
  readonly gather: (source: tfjs.Tensor2D, index: tfjs.Tensor1D, axis: 0 | 1) => Tensor;
  readonly sumSegments: (
    source: tfjs.Tensor2D,
    segments: tfjs.Tensor1D,
    segmentCount: number,
  ) => Tensor;
  /** `dy` where `y` is above 0, else 0. */
  readonly reluGradient: (dy: Tensor, y: Tensor) => Tensor;
  readonly solve: (matrices: tfjs.Tensor3D, columns: tfjs.Tensor3D) => Tensor;
}

function withGradients(tf: typeof tfjs, raw: RawKernels): Kernels {
  const gatherRows: Kernels['gatherRows'] = (source, index) =>
    tf.customGrad((x) => ({
      value: raw.gather(x as tfjs.Tensor2D, index, 0),
      gradFunc: (dy) => sumSegments(dy as tfjs.Tensor2D, index, source.shape[0]),
    }))(source) as tfjs.Tensor2D;
  const sumSegments: Kernels['sumSegments'] = (source, segments, segmentCount) =>
    tf.customGrad((x) => ({
      value: raw.sumSegments(x as tfjs.Tensor2D, segments, segmentCount),
      gradFunc: (dy) => gatherRows(dy as tfjs.Tensor2D, segments),
    }))(source) as tfjs.Tensor2D;
  // Each direction makes its own constant of columns, so neither depends on the life of the other.
  const columnsOf = (x: Tensor, columns: readonly number[]): Tensor =>
    raw.gather(x as tfjs.Tensor2D, tf.tensor1d(Int32Array.from(columns), 'int32'), 1);
  const selectColumns: Kernels['selectColumns'] = (source, columns) =>
    tf.customGrad((x) => ({
      value: columnsOf(x as Tensor, columns),
      gradFunc: (dy) => spreadColumns(dy as tfjs.Tensor2D, columns, source.shape[1]),
    }))(source) as tfjs.Tensor2D;
  const spreadColumns: Kernels['spreadColumns'] = (source, columns, width) => {
    const places = new Int32Array(width).fill(columns.length);
    for (const [place, column] of columns.entries()) places[column] = place;
    return tf.customGrad((x) => ({
      // The last column is of zeros.
      value: columnsOf(
        tf.pad(x as tfjs.Tensor2D, [
          [0, 0],
          [0, 1],
        ]),
        [...places],
      ),
      gradFunc: (dy) => selectColumns(dy as tfjs.Tensor2D, columns),
    }))(source) as tfjs.Tensor2D;
  };
  const reluGradient = (dy: Tensor, y: Tensor): Tensor =>
    tf.customGrad((x) => ({
      value: raw.reluGradient(x as Tensor, y),
      gradFunc: (ddy) => reluGradient(ddy, y),
    }))(dy);
  const relu: Kernels['relu'] = (input) =>
    tf.customGrad((x, save) => {
      const y = tf.relu(x as Tensor);
      (save as (tensors: Tensor[]) => void)([y]);
      return {
        value: y,
        gradFunc: (dy, saved) => reluGradient(dy, saved[0] ?? y),
      };
    })(input);
  const repeatByTask: Kernels['repeatByTask'] = (source, taskCount) =>
    tf.customGrad((input) => {
      const x = input as Tensor;
      return {
        value: tf.tile(tf.expandDims(x, 0), [taskCount, ...x.shape.map(() => 1)]),
        gradFunc: (dy) => tf.sum(dy, 0),
      };
    })(source);
  return {
    ...{ device: raw.device, gatherRows, sumSegments, selectColumns, spreadColumns },
    ...{ relu, repeatByTask, solve: withGradient(tf, raw.solve) },
  };
}

/**
 * The matrices are symmetric, so those of the gradient are the same. TensorFlow throws on a matrix that is not finite; here its
 * solution is NaN, so that diverged training ends as such.
 */
function withGradient(tf: typeof tfjs, raw: RawKernels['solve']): Kernels['solve'] {
  const solve: Kernels['solve'] = (matrices, columns) =>
    tf.customGrad((a, b, save) => {
      const sums = tf.sum(a as Tensor, [1, 2], true);
      const of = tf.where(
        tf.isFinite(sums),
        a as Tensor,
        tf.eye(matrices.shape[1]),
      ) as tfjs.Tensor3D;
      const by = b as tfjs.Tensor3D;
      (save as (tensors: Tensor[]) => void)([a as Tensor, by]);
      return {
        value: tf.add(raw(of, by), tf.mul(sums, 0)),
        gradFunc: (dy, saved) => {
          const [kept = of, keptColumns = by] = saved as tfjs.Tensor3D[];
          const ofColumns = solve(kept, dy as tfjs.Tensor3D);
          const solutions = solve(kept, keptColumns);
          return [tf.neg(tf.matMul(ofColumns, solutions, false, true)), ofColumns];
        },
      };
    })(matrices, columns) as tfjs.Tensor3D;
  return solve;
}

export function nativeKernels(tf: typeof tfjs): Kernels {
  const backend = nativeBackendOf(tf);
  if (backend === null) throw new Error(`the backend is ${tf.getBackend()}`);
  const { binding } = backend;
  const type = (name: string, dtype: tfjs.DataType): NativeAttribute => ({
    name,
    type: binding.TF_ATTR_TYPE,
    value: backend.getDTypeInteger(dtype),
  });
  const gatherAttributes = [
    { name: 'batch_dims', type: binding.TF_ATTR_INT, value: 0 },
    type('Tparams', 'float32'),
    type('Tindices', 'int32'),
    type('Taxis', 'int32'),
  ];
  const sumAttributes = [
    type('T', 'float32'),
    type('Tindices', 'int32'),
    type('Tnumsegments', 'int32'),
  ];
  const reluAttributes = [type('T', 'float32')];
  const solveAttributes = [
    type('T', 'float32'),
    { name: 'adjoint', type: binding.TF_ATTR_BOOL, value: false },
  ];
  const withScalar = (value: number, run: (scalar: Tensor) => Tensor): Tensor => {
    const scalar = tf.scalar(value, 'int32');
    const result = run(scalar);
    scalar.dispose();
    return result;
  };
  const rowSums = nativeRowSums(tf);
  return withGradients(tf, {
    device: `TensorFlow ${binding.TF_Version}, ${backend.isUsingGpuDevice ? 'GPU' : 'CPU'}`,
    gather: (source, index, axis) =>
      withScalar(axis, (along) =>
        backend.executeSingleOutput('GatherV2', gatherAttributes, [source, index, along]),
      ),
    sumSegments: (source, segments, segmentCount) =>
      rowSums?.([source], segments, segmentCount) ??
      withScalar(segmentCount, (count) =>
        backend.executeSingleOutput('UnsortedSegmentSum', sumAttributes, [source, segments, count]),
      ),
    reluGradient: (dy, y) => backend.executeSingleOutput('ReluGrad', reluAttributes, [dy, y]),
    solve: (matrices, columns) =>
      backend.executeSingleOutput('MatrixSolve', solveAttributes, [matrices, columns]),
  });
}

export function portableKernels(tf: typeof tfjs): Kernels {
  return withGradients(tf, {
    device: tf.getBackend(),
    gather: (source, index, axis) => tf.gather(source, index, axis),
    // Backend wasm has no UnsortedSegmentSum; ScatterNd adds up repeated rows as well.
    sumSegments: (source, segments, segmentCount) =>
      tf.scatterND(tf.expandDims(segments, 1), source, [segmentCount, source.shape[1]]),
    reluGradient: (dy, y) => tf.mul(dy, tf.step(y)),
    solve: (matrices, columns) => eliminated(tf, matrices, columns),
  });
}

/** Gauss-Jordan elimination. Positive definite matrices need no pivots. */
function eliminated(
  tf: typeof tfjs,
  matrices: tfjs.Tensor3D,
  columns: tfjs.Tensor3D,
): tfjs.Tensor3D {
  const [count, size] = matrices.shape;
  const width = columns.shape[2];
  const identity = tf.eye(size);
  let rows = tf.concat([matrices, columns], 2);
  for (let pivot = 0; pivot < size; pivot += 1) {
    const row = tf.slice(rows, [0, pivot, 0], [count, 1, size + width]);
    const scaled = tf.div<tfjs.Tensor3D>(row, tf.slice(row, [0, 0, pivot], [count, 1, 1]));
    // Its own row loses all but its share, every other one what it has of the pivot.
    const kept = tf.reshape(tf.slice(identity, [0, pivot], [size, 1]), [1, size, 1]);
    const shares = tf.sub<tfjs.Tensor3D>(tf.slice(rows, [0, 0, pivot], [count, size, 1]), kept);
    rows = tf.sub(rows, tf.matMul(shares, scaled));
  }
  return tf.slice(rows, [0, 0, size], [count, size, width]);
}

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

/**
 * Per column of fields `[rowCount, fieldCount, width]` the sum and the sum of squares over fields:
 * `[rowCount, 2 * width]`.
 */
export function fieldSums(tf: typeof tfjs, fields: tfjs.Tensor3D): tfjs.Tensor2D {
  const [rowCount, , width] = fields.shape;
  return tf.customGrad((input, save) => {
    const x = input as tfjs.Tensor3D;
    (save as (tensors: tfjs.Tensor[]) => void)([x]);
    return {
      value: tf.concat([tf.sum(x, 1), tf.sum(tf.square(x), 1)], 1),
      gradFunc: (dy, saved) => {
        const [ofSum, ofSquares] = tf.split(tf.reshape(dy, [rowCount, 1, 2 * width]), 2, 2);
        if (ofSum === undefined || ofSquares === undefined) throw new Error('split in two');
        return tf.add(ofSum, tf.mul(saved[0] ?? x, tf.add(ofSquares, ofSquares)));
      },
    };
  })(fields) as tfjs.Tensor2D;
}

/**
 * `[taskCount, 1, in]` by `[taskCount, in, 1]`. TensorFlow takes microseconds for each of the thousands of matrices of a
 * gradient, all of whose elements are single products.
 */
export function productOfRows(tf: typeof tfjs, x: tfjs.Tensor, weight: tfjs.Tensor): tfjs.Tensor {
  return tf.customGrad((a, b, save) => {
    const [row, column] = [a as tfjs.Tensor, b as tfjs.Tensor];
    (save as (tensors: tfjs.Tensor[]) => void)([row, column]);
    return {
      value: tf.matMul(row, column),
      gradFunc: (dy, [savedRow = row, savedColumn = column]) => [
        tf.mul(dy, tf.reshape(savedColumn, row.shape)),
        tf.mul(dy, tf.reshape(savedRow, column.shape)),
      ],
    };
  })(x, weight);
}
