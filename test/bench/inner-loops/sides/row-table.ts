/**
 * An embedding table from which a step reads rows by id and subtracts their change. Each distinct
 * id gets one sum, so that a frequent id loses nothing to rounding. The table is a resource of the
 * native library.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../../../../worker/compute/engine/load-engine.js';
import {
  nativeBackendOf,
  type NativeAttribute,
  type NativeBackend,
} from '../../../../worker/compute/engine/native-backend.js';
import { nativeRowSums } from '../../../../worker/compute/engine/kernels.js';

interface RowTable {
  /** The rows of `ids`: `[ids.length, width]`. */
  readonly gather: (ids: Int32Array) => tfjs.Tensor2D;
  /**
   * Subtracts from each row of `ids` the sum of the changes of its occurrences. The concatenation
   * of `changes` `[.., width]` matches that of the id lists; `rows` are the rows of `ids` as they
   * were gathered, which avoids reading them again.
   */
  readonly subtract: (
    occurrences: Occurrences,
    rows: tfjs.Tensor,
    changes: readonly tfjs.Tensor[],
  ) => void;
  readonly values: () => Float32Array;
  readonly dispose: () => void;
}

/** Views of memory that the next grouping overwrites. */
export interface Occurrences {
  /** The distinct ids in ascending order, the fastest order for reading and writing a table. */
  readonly ids: Int32Array;
  /** For each occurrence in the concatenated lists, its position in `ids`. */
  readonly places: Int32Array;
}

/**
 * Finds the distinct ids of lists; all are below `rowCount`. There is one bit for each id, and for
 * each word of bits the count of bits before it, so the data looked up for every occurrence stays
 * in the cache.
 */
export function createGrouping(rowCount: number): (idLists: readonly Int32Array[]) => Occurrences {
  const wordCount = Math.ceil(rowCount / 32);
  const isThere = new Int32Array(wordCount);
  const countBefore = new Int32Array(wordCount);
  let ids = new Int32Array(0);
  let places = new Int32Array(0);
  return (idLists) => {
    const count = idLists.reduce((sum, list) => sum + list.length, 0);
    if (places.length < count) {
      ids = new Int32Array(count);
      places = new Int32Array(count);
    }
    for (const list of idLists)
      for (let index = 0; index < list.length; index += 1) {
        const id = list[index] ?? 0;
        isThere[id >>> 5] = (isThere[id >>> 5] ?? 0) | (1 << (id & 31));
      }
    let uniqueCount = 0;
    for (let word = 0; word < wordCount; word += 1) {
      countBefore[word] = uniqueCount;
      for (let bits = isThere[word] ?? 0; bits !== 0; bits &= bits - 1) {
        ids[uniqueCount] = word * 32 + 31 - Math.clz32(bits & -bits);
        uniqueCount += 1;
      }
    }
    let occurrence = 0;
    for (const list of idLists)
      for (let index = 0; index < list.length; index += 1) {
        const id = list[index] ?? 0;
        const lower = (isThere[id >>> 5] ?? 0) & ((1 << (id & 31)) - 1);
        places[occurrence] = (countBefore[id >>> 5] ?? 0) + bitCount(lower);
        occurrence += 1;
      }
    isThere.fill(0);
    return { ids: ids.subarray(0, uniqueCount), places: places.subarray(0, count) };
  };
}

/** Counts the bits of a 32-bit integer: pairs, nibbles, then all bytes summed by one product. */
function bitCount(bits: number): number {
  const pairs = bits - ((bits >>> 1) & 0x55555555);
  const nibbles = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

export function createRowTable(engine: Engine, values: Float32Array, width: number): RowTable {
  const { tf } = engine;
  const backend = nativeBackendOf(tf);
  if (backend === null) throw new Error('the bench needs the native backend');
  const { binding } = backend;
  const rowCount = values.length / width;
  const type = typesOf(backend);
  const ofTable = [type('dtype', 'float32'), type('Tindices', 'int32')];
  const [handle] = binding.executeOp(
    'VarHandleOp',
    [
      type('dtype', 'float32'),
      { name: 'shape', type: binding.TF_ATTR_SHAPE, value: [rowCount, width] },
      { name: 'shared_name', type: binding.TF_ATTR_STRING, value: `table of ${rowCount} rows` },
    ],
    [],
    1,
  );
  if (handle === undefined) throw new Error('a resource has a handle');
  const initial = tf.tensor2d(values, [rowCount, width]);
  const assigned = backend.getInputTensorIds([initial]);
  binding.executeOp('AssignVariableOp', [type('dtype', 'float32')], [handle.id, ...assigned], 0);
  initial.dispose();
  const sumsOf =
    nativeRowSums(tf) ??
    ((changes: readonly tfjs.Tensor[], places: tfjs.Tensor1D, count: number) =>
      engine.kernels.sumSegments(tf.concat([...changes]) as tfjs.Tensor2D, places, count));
  return {
    gather: (ids) => {
      const tensor = tf.tensor1d(ids, 'int32');
      const inputs = [handle.id, ...backend.getInputTensorIds([tensor])];
      const [rows] = binding.executeOp('ResourceGather', ofTable, inputs, 1);
      tensor.dispose();
      if (rows === undefined) throw new Error('a gather has a result');
      return backend.createOutputTensor(rows) as tfjs.Tensor2D;
    },
    subtract: ({ ids, places }, rows, changes) => {
      tf.tidy(() => {
        const sums = sumsOf(changes, tf.tensor1d(places, 'int32'), ids.length);
        const changed = tf.sub(rows, sums);
        const inputs = backend.getInputTensorIds([tf.tensor1d(ids, 'int32'), changed]);
        binding.executeOp('ResourceScatterUpdate', ofTable, [handle.id, ...inputs], 0);
      });
    },
    values: () => {
      const [all] = binding.executeOp('ReadVariableOp', [type('dtype', 'float32')], [handle.id], 1);
      if (all === undefined) throw new Error('a read has a result');
      const tensor = backend.createOutputTensor(all);
      const copy = Float32Array.from(tensor.dataSync<'float32'>());
      tensor.dispose();
      return copy;
    },
    dispose: () => {
      const ignore = [{ name: 'ignore_lookup_error', type: binding.TF_ATTR_BOOL, value: true }];
      binding.executeOp('DestroyResourceOp', ignore, [handle.id], 0);
      binding.deleteTensor(handle.id);
    },
  };
}

function typesOf(backend: NativeBackend): (name: string, dtype: tfjs.DataType) => NativeAttribute {
  return (name, dtype) => ({
    name,
    type: backend.binding.TF_ATTR_TYPE,
    value: backend.getDTypeInteger(dtype),
  });
}
