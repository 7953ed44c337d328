/** The TensorFlow.js backends to choose from, and the members of the addon's that its public type hides. */

import type * as tfjs from '@tensorflow/tfjs';

/** `auto`: native TensorFlow if it loads, else the fastest portable backend that does. */
export type BackendChoice = 'auto' | 'tensorflow' | 'wasm' | 'cpu';

/** A tensor as the binding describes it. */
interface NativeTensor {
  readonly id: number;
  readonly shape: readonly number[];
  /** TensorFlow's number for the type: 1 float32, 3 int32, 10 bool. */
  readonly dtype: number;
}

/** An attribute as backends pass it to the binding. */
export interface NativeAttribute {
  readonly name: string;
  /** One of the binding's `TF_ATTR_...`. */
  readonly type: number;
  readonly value: unknown;
}

export interface NativeBinding {
  readonly TF_Version: string;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_SHAPE: number;
  createTensor(shape: number[], dtype: number, values: ArrayBufferView): number;
  deleteTensor(id: number): void;
  tensorDataSync(id: number): ArrayBufferView;
  executeOp(
    name: string,
    attributes: NativeAttribute[],
    inputIds: number[],
    outputCount: number,
  ): NativeTensor[];
  loadSavedModel(folder: string, tags: string): number;
  deleteSavedModel(id: number): void;
  /** @param inputNames with output index, joined by commas: `a:0,b:0`; likewise `outputNames`. */
  runSavedModel(
    id: number,
    inputIds: number[],
    inputNames: string,
    outputNames: string,
  ): NativeTensor[];
}

export interface NativeBackend {
  readonly isUsingGpuDevice: boolean;
  /** Recording a graph replaces it by a derived one. */
  binding: NativeBinding;
  getDTypeInteger(dtype: tfjs.DataType): number;
  executeSingleOutput(
    name: string,
    attributes: NativeAttribute[],
    inputs: tfjs.Tensor[],
  ): tfjs.Tensor;
  /** Uploads tensors that have not been uploaded. */
  getInputTensorIds(tensors: tfjs.Tensor[]): number[];
  createOutputTensor(tensor: NativeTensor): tfjs.Tensor;
}

/** Null if the current backend is not the addon's. */
export function nativeBackendOf(tf: typeof tfjs): NativeBackend | null {
  return tf.getBackend() === 'tensorflow' ? (tf.backend() as unknown as NativeBackend) : null;
}
