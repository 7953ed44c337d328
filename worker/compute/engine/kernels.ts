/**
 * Replacements for operations of the library with needless cost: `tf.gather` reads its indices back into
 * JavaScript, and the gradient of ReLU takes six operations. Every gradient here consists of
 * differentiable operations. `lean-gradients.ts` replaces gradients alone.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { nativeBackendOf, type NativeAttribute } from './native-backend.js';

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

/** The matrices are symmetric, so those of the gradient are the same. */
function withGradient(tf: typeof tfjs, raw: RawKernels['solve']): Kernels['solve'] {
  const solve: Kernels['solve'] = (matrices, columns) =>
    tf.customGrad((a, b, save) => {
      const [of, by] = [a as tfjs.Tensor3D, b as tfjs.Tensor3D];
      (save as (tensors: Tensor[]) => void)([of, by]);
      return {
        value: raw(of, by),
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
