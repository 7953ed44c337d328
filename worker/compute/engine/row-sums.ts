/**
 * Sums rows by place with an operation that is compiled into the addon (`native/sum-rows.cc`). On the
 * narrow rows of embedding tables it is several times as fast as UnsortedSegmentSum, with the same bits.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { nativeBackendOf } from './native-backend.js';

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
