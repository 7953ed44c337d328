/**
 * A graph as an ONNX model: opset 17, IR version 8, which ONNX Runtime reads since 1.12. Values have a row for
 * each candidate, whose number is not known: `null` in a shape. Large arrays are external data at multiples of
 * 64 KiB, so that programs can map them, and are written in pieces, so that no copy of them is held.
 */

import { open, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { at } from '../../../shared/base/arrays.js';
import { elementCountOf } from '../../../shared/tensors/named-tensors.js';
import { messageOf, type ProtoWriter } from '../../../shared/storage/protobuf.js';

const ONNX_FILE = 'model.onnx';
const DATA_FILE = 'model.data';
const ONNX_OPSET = 17;
const IR_VERSION = 8;
/** Smaller arrays are in the model itself. */
const EXTERNAL_BYTE_COUNT_MIN = 64 * 1024;
const ALIGNMENT = 64 * 1024;
/** AttributeProto.AttributeType */
const INT_ATTRIBUTE = 2;
const INTS_ATTRIBUTE = 7;
const EXTERNAL = 1;

/** Numbers of TensorProto.DataType, and sizes. */
const TYPES = {
  ...{ float32: { number: 1, byteCount: 4 }, float16: { number: 10, byteCount: 2 } },
  ...{ int32: { number: 6, byteCount: 4 }, int64: { number: 7, byteCount: 8 } },
} as const;

type ElementType = keyof typeof TYPES;
type Extent = number | null;

export interface GraphValue {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly Extent[];
}

/** An array of the model, little-endian and row-major. */
export interface GraphArray extends GraphValue {
  readonly shape: readonly number[];
  /** The bytes in order. They hold until the next piece. */
  pieces(): Iterable<Uint8Array>;
}

/** The bytes of a file of external data: what lies where, in order. */
interface PlacedArray {
  readonly array: GraphArray;
  readonly byteOffset: number;
  readonly byteCount: number;
}

interface OnnxModel {
  readonly bytes: Uint8Array;
  readonly external: readonly PlacedArray[];
}

interface GraphNode {
  readonly opType: string;
  readonly inputs: readonly GraphValue[];
  readonly output: string;
  readonly attributes: Attributes;
}

type Attributes = Readonly<Record<string, number | readonly number[]>>;

/** Writes a graph node by node. Shapes are those of the operations, rows first. */
export class OnnxGraph {
  readonly #nodes: GraphNode[] = [];
  readonly #inputs: GraphValue[] = [];
  readonly #outputs: GraphValue[] = [];
  readonly #arrays: GraphArray[] = [];
  /** Lists of 64-bit numbers that nodes read. */
  readonly #lists = new Map<string, GraphArray>();

  input(name: string, type: ElementType, shape: readonly Extent[]): GraphValue {
    const value = { name, type, shape };
    this.#inputs.push(value);
    return value;
  }

  /** @param name as clients see it. */
  output(name: string, value: GraphValue): void {
    this.#nodes.push({ opType: 'Identity', inputs: [value], output: name, attributes: {} });
    this.#outputs.push({ ...value, name });
  }

  array(array: GraphArray): GraphValue {
    this.#arrays.push(array);
    return array;
  }

  constant(values: Float32Array | Int32Array, shape: readonly number[]): GraphValue {
    if (elementCountOf(shape) !== values.length) throw new Error('a constant of another size');
    return this.array(arrayOf(`constant_${this.#arrays.length}`, shape, values));
  }

  number(value: number): GraphValue {
    return this.constant(Float32Array.of(value), []);
  }

  add(a: GraphValue, b: GraphValue): GraphValue {
    return this.#broadcast('Add', a, b);
  }

  sub(a: GraphValue, b: GraphValue): GraphValue {
    return this.#broadcast('Sub', a, b);
  }

  mul(a: GraphValue, b: GraphValue): GraphValue {
    return this.#broadcast('Mul', a, b);
  }

  div(a: GraphValue, b: GraphValue): GraphValue {
    return this.#broadcast('Div', a, b);
  }

  max(a: GraphValue, b: GraphValue): GraphValue {
    return this.#broadcast('Max', a, b);
  }

  /** Gives 1 and 0 in float32. */
  compare(opType: 'Equal' | 'GreaterOrEqual', a: GraphValue, b: GraphValue): GraphValue {
    return this.toFloat(this.#broadcast(opType, a, b));
  }

  relu(value: GraphValue): GraphValue {
    return this.#node('Relu', [value], value);
  }

  sqrt(value: GraphValue): GraphValue {
    return this.#node('Sqrt', [value], value);
  }

  sigmoid(value: GraphValue): GraphValue {
    return this.#node('Sigmoid', [value], value);
  }

  log(value: GraphValue): GraphValue {
    return this.#node('Log', [value], value);
  }

  toFloat(value: GraphValue): GraphValue {
    const { shape } = value;
    return this.#node('Cast', [value], { type: 'float32', shape }, { to: TYPES.float32.number });
  }

  /** `[n, ...]` from `[rowCount, ...]` and ids `[n]`, or `[n, length, ...]` from ids `[n, length]`. */
  rows(array: GraphValue, ids: GraphValue): GraphValue {
    const shape = [...ids.shape, ...array.shape.slice(1)];
    return this.#node('Gather', [array, ids], { type: array.type, shape }, { axis: 0 });
  }

  /** Gathers along axis 1 by a constant list of places. */
  columns(value: GraphValue, places: readonly number[]): GraphValue {
    const list = this.constant(Int32Array.from(places), [places.length]);
    const shape = [null, places.length, ...value.shape.slice(2)];
    return this.#node('Gather', [value, list], { type: value.type, shape }, { axis: 1 });
  }

  /** From the last axis. */
  slice(value: GraphValue, start: number, end: number): GraphValue {
    const { type, shape } = value;
    if (start === 0 && end === at(shape, shape.length - 1)) return value;
    const bounds = [[start], [end], [-1]].map((values) => this.#list(values));
    return this.#node('Slice', [value, ...bounds], {
      type,
      shape: [...shape.slice(0, -1), end - start],
    });
  }

  /** @param rest the extents after the rows. */
  reshape(value: GraphValue, rest: readonly number[]): GraphValue {
    const { type, shape } = value;
    if (shape.slice(1).join() === rest.join()) return value;
    const extents = this.#list([-1, ...rest]);
    return this.#node('Reshape', [value, extents], { type, shape: [null, ...rest] });
  }

  /** Multiplies matrices, or a matrix for each row. */
  matMul(a: GraphValue, b: GraphValue): GraphValue {
    const shape = [...a.shape.slice(0, -1), at(b.shape, b.shape.length - 1)];
    return this.#node('MatMul', [a, b], { type: 'float32', shape });
  }

  /** `[n, b, a]` from `[n, a, b]`. */
  transpose(value: GraphValue): GraphValue {
    const [rows = null, a = null, b = null] = value.shape;
    const { type } = value;
    return this.#node('Transpose', [value], { type, shape: [rows, b, a] }, { perm: [0, 2, 1] });
  }

  /** Joins values `[n, width]` along axis 1. */
  concat(values: readonly GraphValue[]): GraphValue {
    const [first] = values;
    if (first !== undefined && values.length === 1) return first;
    const width = values.reduce((sum, { shape }) => sum + (at(shape, 1) ?? 0), 0);
    return this.#node('Concat', values, { type: 'float32', shape: [null, width] }, { axis: 1 });
  }

  sum(value: GraphValue, axis: number): GraphValue {
    const shape = value.shape.filter((_, place) => place !== axis);
    const inputs = [value, this.#list([axis])];
    return this.#node('ReduceSum', inputs, { type: 'float32', shape }, { keepdims: 0 });
  }

  /** @param metadata texts by name that the model carries. */
  model(metadata: Readonly<Record<string, string>>): OnnxModel {
    const external = placedArrays(this.#arrays);
    const bytes = messageOf((model) => {
      model.writeInt64(1, IR_VERSION);
      model.writeString(2, 'qianmo');
      model.writeMessage(7, external, (placed, graph) => this.#writeGraph(placed, graph));
      model.writeMessage(8, ONNX_OPSET, (version, opset) => {
        opset.writeString(1, '');
        opset.writeInt64(2, version);
      });
      for (const entry of Object.entries(metadata)) model.writeMessage(14, entry, writeEntry);
    });
    return { bytes, external };
  }

  #writeGraph(external: readonly PlacedArray[], graph: ProtoWriter): void {
    for (const node of this.#nodes) graph.writeMessage(1, node, writeNode);
    graph.writeString(2, 'ranking');
    for (const array of [...this.#arrays, ...this.#lists.values()])
      graph.writeMessage(5, array, (each, tensor) => writeArray(each, tensor, external));
    for (const input of this.#inputs) graph.writeMessage(11, input, writeInfo);
    for (const output of this.#outputs) graph.writeMessage(12, output, writeInfo);
  }

  #broadcast(opType: string, a: GraphValue, b: GraphValue): GraphValue {
    return this.#node(opType, [a, b], { type: a.type, shape: broadcast(a.shape, b.shape) });
  }

  #list(values: readonly number[]): GraphValue {
    const name = `list_${values.join('_')}`;
    const known = this.#lists.get(name);
    if (known !== undefined) return known;
    const list = arrayOf(name, [values.length], BigInt64Array.from(values, BigInt));
    this.#lists.set(name, list);
    return list;
  }

  #node(
    opType: string,
    inputs: readonly GraphValue[],
    { type, shape }: Pick<GraphValue, 'type' | 'shape'>,
    attributes: Attributes = {},
  ): GraphValue {
    const output = { name: `${opType}_${this.#nodes.length}`, type, shape };
    this.#nodes.push({ opType, inputs, output: output.name, attributes });
    return output;
  }
}

/** An array that is in memory. */
export function arrayOf(
  name: string,
  shape: readonly number[],
  values: Float32Array | Int32Array | BigInt64Array,
): GraphArray {
  const { buffer, byteOffset, byteLength } = values;
  const type =
    values instanceof Float32Array ? 'float32' : values instanceof Int32Array ? 'int32' : 'int64';
  return { name, type, shape, pieces: () => [new Uint8Array(buffer, byteOffset, byteLength)] };
}

function broadcast(a: readonly Extent[], b: readonly Extent[]): Extent[] {
  const rank = Math.max(a.length, b.length);
  const padded = (shape: readonly Extent[]): Extent[] => [
    ...Array.from({ length: rank - shape.length }, () => 1),
    ...shape,
  ];
  const right = padded(b);
  return padded(a).map((extent, axis) => {
    const other = at(right, axis);
    if (extent !== 1 && other !== 1 && extent !== other)
      throw new Error(`[${a.join(', ')}] and [${b.join(', ')}] do not go together`);
    return extent === 1 ? other : extent;
  });
}

export function byteCountOf({ type, shape }: Pick<GraphArray, 'type' | 'shape'>): number {
  return elementCountOf(shape) * TYPES[type].byteCount;
}

function placedArrays(arrays: readonly GraphArray[]): PlacedArray[] {
  let end = 0;
  return arrays.flatMap((array) => {
    const byteCount = byteCountOf(array);
    if (byteCount < EXTERNAL_BYTE_COUNT_MIN) return [];
    const byteOffset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = byteOffset + byteCount;
    return { array, byteOffset, byteCount };
  });
}

function writeNode({ opType, inputs, output, attributes }: GraphNode, node: ProtoWriter): void {
  for (const { name } of inputs) node.writeString(1, name);
  for (const field of [2, 3]) node.writeString(field, output);
  node.writeString(4, opType);
  for (const entry of Object.entries(attributes))
    node.writeMessage(5, entry, ([name, value], attribute) => {
      attribute.writeString(1, name);
      if (typeof value === 'number') attribute.writeInt64(3, value);
      else attribute.writePackedInt64(8, value);
      attribute.writeInt64(20, typeof value === 'number' ? INT_ATTRIBUTE : INTS_ATTRIBUTE);
    });
}

function writeArray(
  array: GraphArray,
  tensor: ProtoWriter,
  external: readonly PlacedArray[],
): void {
  tensor.writePackedInt64(1, array.shape);
  tensor.writeInt64(2, TYPES[array.type].number);
  tensor.writeString(8, array.name);
  const placed = external.find((each) => each.array === array);
  if (placed === undefined) {
    tensor.writeBytes(9, Buffer.concat([...array.pieces()].map((piece) => Buffer.from(piece))));
    return;
  }
  const { byteOffset, byteCount } = placed;
  const entries = { location: DATA_FILE, offset: String(byteOffset), length: String(byteCount) };
  for (const entry of Object.entries(entries)) tensor.writeMessage(13, entry, writeEntry);
  tensor.writeInt64(14, EXTERNAL);
}

function writeEntry([key, value]: readonly [string, string], entry: ProtoWriter): void {
  entry.writeString(1, key);
  entry.writeString(2, value);
}

function writeInfo({ name, type, shape }: GraphValue, info: ProtoWriter): void {
  info.writeString(1, name);
  info.writeMessage(2, type, (_, typed) =>
    typed.writeMessage(1, type, (element, tensor) => {
      tensor.writeInt64(1, TYPES[element].number);
      tensor.writeMessage(2, shape, (extents, list) => {
        for (const extent of extents)
          // A null is no message.
          list.writeMessage(1, { extent }, (each, dim) =>
            each.extent === null ? dim.writeString(2, 'rows') : dim.writeInt64(1, each.extent),
          );
      });
    }),
  );
}

/** Writes `model.onnx`, and `model.data` if there are large arrays. */
export async function writeOnnxModel(
  graph: OnnxGraph,
  folder: string,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const { bytes, external } = graph.model(metadata);
  if (external.length > 0) {
    const file = await open(join(folder, DATA_FILE), 'wx');
    try {
      for (const { array, byteOffset } of external) await writePieces(file, array, byteOffset);
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await writeFile(join(folder, ONNX_FILE), bytes, { flush: true });
}

async function writePieces(file: FileHandle, array: GraphArray, byteOffset: number): Promise<void> {
  let position = byteOffset;
  for (const piece of array.pieces())
    // One call may write a part only.
    for (let written = 0; written < piece.byteLength;) {
      const { bytesWritten } = await file.write(piece, written, undefined, position);
      written += bytesWritten;
      position += bytesWritten;
    }
}
