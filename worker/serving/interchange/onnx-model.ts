/**
 * A scoring graph as an ONNX model: opset 17, IR version 8, which ONNX Runtime reads since 1.12. Large
 * arrays are external data at multiples of 64 KiB, so that programs can map them.
 */

import { at } from '../../../shared/base/arrays.js';
import { elementCountOf } from '../../../shared/tensors/named-tensors.js';
import { ProtoWriter } from '../../../shared/formats/protobuf.js';
import {
  BYTES_PER_ELEMENT,
  type BinaryOperation,
  type ElementType,
  type GraphArray,
  type GraphNode,
  type GraphValue,
  type ScoringGraph,
  type UnaryOperation,
} from './scoring-graph.js';

const ONNX_OPSET = 17;
const IR_VERSION = 8;
/** Smaller arrays are in the model itself. */
const EXTERNAL_BYTE_COUNT_MIN = 64 * 1024;
const ALIGNMENT = 64 * 1024;

/** TensorProto.DataType */
const TYPE_NUMBER: Readonly<Record<ElementType | 'int64', number>> = {
  ...{ float32: 1, int8: 3, int32: 6, int64: 7, float16: 10 },
};
/** AttributeProto.AttributeType */
const INT_ATTRIBUTE = 2;
const INTS_ATTRIBUTE = 7;
const EXTERNAL = 1;

interface PlacedArray {
  readonly array: GraphArray;
  readonly byteOffset: number;
  readonly byteCount: number;
}

interface OnnxModel {
  readonly bytes: Uint8Array;
  /** The file of external data: what lies where, in order. */
  readonly external: readonly PlacedArray[];
}

/**
 * @param dataFile the name of the file of external data, beside the model.
 * @param metadata texts by name that the model carries.
 */
export function onnxModelOf(
  graph: ScoringGraph,
  dataFile: string,
  metadata: Readonly<Record<string, string>>,
): OnnxModel {
  const external = placedArrays(graph.arrays);
  const model = new ProtoWriter()
    .int(1, IR_VERSION)
    .text(2, 'qianmo')
    .message(7, (message) => writeGraph(message, graph, { external, dataFile }))
    .message(8, (opset) => opset.text(1, '').int(2, ONNX_OPSET));
  for (const [key, value] of Object.entries(metadata))
    model.message(14, (entry) => entry.text(1, key).text(2, value));
  return { bytes: model.finish(), external };
}

function placedArrays(arrays: readonly GraphArray[]): PlacedArray[] {
  let end = 0;
  return arrays.flatMap((array) => {
    const byteCount = elementCountOf(array.shape) * BYTES_PER_ELEMENT[array.type];
    if (byteCount < EXTERNAL_BYTE_COUNT_MIN) return [];
    const byteOffset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = byteOffset + byteCount;
    return { array, byteOffset, byteCount };
  });
}

interface ExternalData {
  readonly external: readonly PlacedArray[];
  readonly dataFile: string;
}

function writeGraph(message: ProtoWriter, graph: ScoringGraph, data: ExternalData): void {
  const nodes = new NodeWriter(message);
  for (const node of graph.nodes) nodes.add(node);
  for (const { name, value } of graph.outputs) nodes.write('Identity', [value.name], name);
  message.text(2, 'ranking');
  for (const array of graph.arrays) message.message(5, (tensor) => writeArray(tensor, array, data));
  for (const { name, type, shape, values } of graph.constants) {
    const { buffer, byteOffset, byteLength } = values;
    message.message(5, (tensor) => {
      writeTensorHead(tensor, name, type, shape);
      tensor.bytes(9, new Uint8Array(buffer, byteOffset, byteLength));
    });
  }
  for (const { name, values } of nodes.lists)
    message.message(5, (tensor) => {
      writeTensorHead(tensor, name, 'int64', [values.length]);
      const wide = BigInt64Array.from(values, BigInt);
      tensor.bytes(9, new Uint8Array(wide.buffer));
    });
  for (const input of graph.inputs)
    message.message(11, (info) => writeInfo(info, input.name, input));
  for (const { name, value } of graph.outputs)
    message.message(12, (info) => writeInfo(info, name, value));
}

function writeTensorHead(
  tensor: ProtoWriter,
  name: string,
  type: ElementType | 'int64',
  shape: readonly number[],
): void {
  tensor.ints(1, shape).int(2, TYPE_NUMBER[type]).text(8, name);
}

function writeArray(
  tensor: ProtoWriter,
  array: GraphArray,
  { external, dataFile }: ExternalData,
): void {
  writeTensorHead(tensor, array.name, array.type, array.shape);
  const placed = external.find((each) => each.array === array);
  if (placed === undefined) {
    tensor.bytes(9, Buffer.concat([...array.pieces()].map((piece) => Buffer.from(piece))));
    return;
  }
  const entries = {
    location: dataFile,
    offset: String(placed.byteOffset),
    length: String(placed.byteCount),
  };
  for (const [key, value] of Object.entries(entries))
    tensor.message(13, (entry) => entry.text(1, key).text(2, value));
  tensor.int(14, EXTERNAL);
}

function writeInfo(info: ProtoWriter, name: string, { type, shape }: GraphValue): void {
  info.text(1, name).message(2, (typed) =>
    typed.message(1, (tensor) =>
      tensor.int(1, TYPE_NUMBER[type]).message(2, (extents) => {
        for (const extent of shape)
          extents.message(1, (dim) => (extent === null ? dim.text(2, 'rows') : dim.int(1, extent)));
      }),
    ),
  );
}

type Attributes = Readonly<Record<string, number | readonly number[]>>;

const OP_TYPES: Readonly<Record<BinaryOperation | Exclude<UnaryOperation, 'toFloat'>, string>> = {
  ...{ add: 'Add', sub: 'Sub', mul: 'Mul', div: 'Div', max: 'Max' },
  ...{ relu: 'Relu', sigmoid: 'Sigmoid' },
};

class NodeWriter {
  readonly #graph: ProtoWriter;
  /** Lists of 64-bit numbers that nodes read. */
  readonly lists: { readonly name: string; readonly values: readonly number[] }[] = [];

  constructor(graph: ProtoWriter) {
    this.#graph = graph;
  }

  add({ operation, inputs, output }: GraphNode): void {
    const names = inputs.map(({ name }) => name);
    const { name } = output;
    switch (operation.op) {
      case 'toFloat':
        return this.write('Cast', names, name, { to: TYPE_NUMBER.float32 });
      case 'isEqual':
        return this.#compare('Equal', names, name);
      case 'isAtLeast':
        return this.#compare('GreaterOrEqual', names, name);
      case 'rows':
        return this.write('Gather', names, name, { axis: 0 });
      case 'columns':
        return this.write('Gather', names, name, { axis: 1 });
      case 'slice': {
        const { start, end } = operation;
        const lists = [[start], [end], [-1]].map((values) => this.#list(values));
        return this.write('Slice', [...names, ...lists], name);
      }
      case 'reshape':
        return this.write('Reshape', [...names, this.#list([-1, ...operation.rest])], name);
      case 'matMul':
        return this.write('MatMul', names, name);
      case 'matMulTransposed': {
        const [first = '', second = ''] = names;
        this.write('Transpose', [second], `${name}.transposed`, { perm: [0, 2, 1] });
        return this.write('MatMul', [first, `${name}.transposed`], name);
      }
      case 'concat':
        return this.write('Concat', names, name, { axis: 1 });
      case 'sum':
        return this.write('ReduceSum', [...names, this.#list([operation.axis])], name, {
          keepdims: 0,
        });
      default:
        return this.write(OP_TYPES[operation.op], names, name);
    }
  }

  write(
    opType: string,
    inputs: readonly string[],
    output: string,
    attributes: Attributes = {},
  ): void {
    this.#graph.message(1, (node) => {
      for (const input of inputs) node.text(1, input);
      node.text(2, output).text(3, output).text(4, opType);
      for (const [name, value] of Object.entries(attributes))
        node.message(5, (attribute) =>
          typeof value === 'number'
            ? attribute.text(1, name).int(3, value).int(20, INT_ATTRIBUTE)
            : attribute.text(1, name).ints(8, value).int(20, INTS_ATTRIBUTE),
        );
    });
  }

  /** Comparisons give booleans. */
  #compare(opType: string, names: readonly string[], name: string): void {
    this.write(opType, names, `${name}.boolean`);
    this.write('Cast', [`${name}.boolean`], name, { to: TYPE_NUMBER.float32 });
  }

  #list(values: readonly number[]): string {
    const known = this.lists.find((list) => list.values.join() === values.join());
    if (known !== undefined) return known.name;
    const name = `list_${this.lists.length}`;
    this.lists.push({ name, values });
    return at(this.lists, this.lists.length - 1).name;
  }
}
