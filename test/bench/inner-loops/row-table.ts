/**
 * An embedding table and the rows of it that one batch touches: ids become places in a small pack,
 * the pack goes to the graph, its change is taken off the table. The table lies in host memory or in
 * a resource of the native library, which gathers and scatters without a way through JavaScript.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../../../worker/compute/engine/load-engine.js';
import {
  nativeBackendOf,
  type NativeAttribute,
} from '../../../worker/compute/engine/native-backend.js';

export interface RowTable {
  /** The rows of `ids` `[packRowCount]`, `[packRowCount, width]`. */
  readonly gather: (ids: Int32Array) => tfjs.Tensor2D;
  /** Takes `change` off the rows gathered last; the first `uniqueCount` ids differ, what follows is padding. */
  readonly subtract: (change: tfjs.Tensor, uniqueCount: number) => void;
  readonly values: () => Float32Array;
  readonly dispose: () => void;
}

export interface Placement {
  readonly places: readonly Int32Array[];
  readonly uniqueCount: number;
  /** The different ids in order of first use, then padding up to a multiple of `packRowsStep`. */
  readonly ids: Int32Array;
}

/** Gives each different id of a batch a place, in order of first use. */
export function createPlacer(
  rowCount: number,
  packRowsStep: number,
): (idLists: readonly Int32Array[]) => Placement {
  // Place of each id plus the first stamp of its call: what is lower is of an earlier call.
  const stamps = new Int32Array(rowCount);
  let base = 1;
  let found = new Int32Array(0);
  return (idLists) => {
    const idCount = idLists.reduce((sum, ids) => sum + ids.length, 0);
    if (found.length < idCount) found = new Int32Array(idCount);
    let uniqueCount = 0;
    const places = idLists.map((ids) => {
      const own = new Int32Array(ids.length);
      for (let index = 0; index < ids.length; index += 1) {
        const id = ids[index] ?? 0;
        let stamp = stamps[id] ?? 0;
        if (stamp < base) {
          stamp = base + uniqueCount;
          stamps[id] = stamp;
          found[uniqueCount] = id;
          uniqueCount += 1;
        }
        own[index] = stamp - base;
      }
      return own;
    });
    base += uniqueCount;
    if (base > 2 ** 30) {
      stamps.fill(0);
      base = 1;
    }
    const ids = new Int32Array(Math.ceil(uniqueCount / packRowsStep) * packRowsStep);
    ids.set(found.subarray(0, uniqueCount));
    return { places, uniqueCount, ids };
  };
}

export function createHostTable({ tf }: Engine, values: Float32Array, width: number): RowTable {
  let last: Int32Array = new Int32Array(0);
  return {
    gather: (ids) => {
      last = ids;
      const pack = new Float32Array(ids.length * width);
      for (let place = 0; place < ids.length; place += 1) {
        const from = (ids[place] ?? 0) * width;
        const to = place * width;
        for (let column = 0; column < width; column += 1)
          pack[to + column] = values[from + column] ?? 0;
      }
      return tf.tensor2d(pack, [ids.length, width]);
    },
    subtract: (change, uniqueCount) => {
      const changes = change.dataSync<'float32'>();
      for (let place = 0; place < uniqueCount; place += 1) {
        const to = (last[place] ?? 0) * width;
        const from = place * width;
        for (let column = 0; column < width; column += 1)
          values[to + column] = (values[to + column] ?? 0) - (changes[from + column] ?? 0);
      }
    },
    values: () => values,
    dispose: () => undefined,
  };
}

/** On a portable backend a host table. */
export function createNativeTable(engine: Engine, values: Float32Array, width: number): RowTable {
  const { tf } = engine;
  const backend = nativeBackendOf(tf);
  if (backend === null) return createHostTable(engine, values, width);
  const { binding } = backend;
  const rowCount = values.length / width;
  const type = (name: string, dtype: tfjs.DataType): NativeAttribute => ({
    ...{ name, type: binding.TF_ATTR_TYPE, value: backend.getDTypeInteger(dtype) },
  });
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
  let last: tfjs.Tensor | null = null;
  return {
    gather: (ids) => {
      last?.dispose();
      last = tf.keep(tf.tensor1d(ids, 'int32'));
      const inputs = [handle.id, ...backend.getInputTensorIds([last])];
      const [rows] = binding.executeOp('ResourceGather', ofTable, inputs, 1);
      if (rows === undefined) throw new Error('a gather has a result');
      return backend.createOutputTensor(rows) as tfjs.Tensor2D;
    },
    // The change of padding is zero: no row of the batch lies there.
    subtract: (change) => {
      if (last === null) throw new Error('nothing was gathered');
      const inputs = [handle.id, ...backend.getInputTensorIds([last, change])];
      binding.executeOp('ResourceScatterSub', ofTable, inputs, 0);
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
      last?.dispose();
      const ignore = [{ name: 'ignore_lookup_error', type: binding.TF_ATTR_BOOL, value: true }];
      binding.executeOp('DestroyResourceOp', ignore, [handle.id], 0);
      binding.deleteTensor(handle.id);
    },
  };
}
