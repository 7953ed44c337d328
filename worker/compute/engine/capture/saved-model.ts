/**
 * Writes a graph as a SavedModel, the only format that the addon loads, and loads it as one native call from inputs to
 * results. The fields are those of TensorFlow's `saved_model.proto`, `meta_graph.proto`, `graph.proto`,
 * `node_def.proto`, `attr_value.proto` and `tensor.proto`. All sessions have the options of
 * `../native/session-options.cc`.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as tfjs from '@tensorflow/tfjs';
import { errorOf } from '../../../../shared/base/errors.js';
import { messageOf, type ProtoWriter } from '../../../../shared/storage/protobuf.js';
import {
  nodesInOrder,
  sizeOf,
  typeOf,
  type Attribute,
  type ConstantValues,
  type ElementType,
  type Graph,
  type GraphNode,
  type GraphValue,
  type ValueType,
} from '../graph.js';
import type { NativeBackend } from '../native-backend.js';

/** TensorFlow's numbers for the element types. */
export const TYPE_NUMBER: Readonly<Record<ElementType, number>> = {
  float32: 1,
  int32: 3,
  bool: 10,
};

/** The graph version of TensorFlow 2.9, the oldest library that the addon is built with. */
const GRAPH_VERSION = 1087;
const SAVED_MODEL_VERSION = 1;
const TAG = 'serve';
/** Messages of 2 GiB cannot be read. A table of that size should be an input, not a constant. */
const CONSTANT_BYTES_MAX = 1 << 30;

interface SavedModel {
  readonly bytes: Uint8Array;
  readonly inputCount: number;
  readonly resultCount: number;
}

export function savedModelOf(graph: Graph): SavedModel {
  return {
    bytes: messageOf((model) => {
      model.writeInt64(1, SAVED_MODEL_VERSION);
      model.writeMessage(2, graph, (_, metaGraph) => {
        metaGraph.writeMessage(1, TAG, (tag, info) => info.writeString(4, tag));
        metaGraph.writeMessage(2, graph, writeGraph);
      });
    }),
    inputCount: graph.inputs.length,
    resultCount: graph.results.length,
  };
}

function writeGraph(graph: Graph, writer: ProtoWriter): void {
  const nodes = nodesInOrder(graph);
  refuseLargeConstants(nodes);
  const names = new Map<GraphNode, string>();
  for (const [index, node] of graph.inputs.entries()) names.set(node, `input_${index}`);
  for (const node of nodes) if (!names.has(node)) names.set(node, `${node.op}_${names.size}`);
  const referenceTo = ({ node, output }: GraphValue): string => {
    const name = names.get(node) ?? '';
    return output === 0 ? name : `${name}:${output}`;
  };
  for (const node of nodes)
    writeNode(writer, {
      name: names.get(node) ?? '',
      op: node.op,
      inputs: node.inputs.map(referenceTo),
      attributes: attributesOf(node),
    });
  // An input, a constant or one value twice may be results: each result is a node of its own.
  for (const [index, result] of graph.results.entries())
    writeNode(writer, {
      name: `result_${index}`,
      op: 'Identity',
      inputs: [referenceTo(result)],
      attributes: { T: { kind: 'type', value: typeOf(result).dtype } },
    });
  writer.writeMessage(4, GRAPH_VERSION, (version, versions) => versions.writeInt64(1, version));
}

function refuseLargeConstants(nodes: readonly GraphNode[]): void {
  const byteCount = nodes.reduce((sum, { constant }) => sum + (constant?.byteLength ?? 0), 0);
  if (byteCount > CONSTANT_BYTES_MAX)
    throw new Error(
      `the graph holds ${byteCount} bytes of constants, more than ${CONSTANT_BYTES_MAX}: ` +
        'pass large tensors as inputs',
    );
}

type WrittenAttribute =
  Attribute | (ValueType & { readonly kind: 'tensor'; values: ConstantValues });

interface WrittenNode {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly string[];
  readonly attributes: Readonly<Record<string, WrittenAttribute>>;
}

function attributesOf(node: GraphNode): WrittenNode['attributes'] {
  const { op, constant } = node;
  if (op !== 'Placeholder' && constant === null) return node.attributes;
  const type = typeOf({ node, output: 0 });
  const dtype: Attribute = { kind: 'type', value: type.dtype };
  return constant === null
    ? { dtype, shape: { kind: 'shape', value: type.shape } }
    : { dtype, value: { kind: 'tensor', ...type, values: constant } };
}

function writeNode(writer: ProtoWriter, written: WrittenNode): void {
  writer.writeMessage(1, written, ({ name, op, inputs, attributes }, node) => {
    node.writeString(1, name);
    node.writeString(2, op);
    for (const input of inputs) node.writeString(3, input);
    for (const [key, attribute] of Object.entries(attributes))
      node.writeMessage(5, key, (_, entry) => {
        entry.writeString(1, key);
        entry.writeMessage(2, attribute, writeAttribute);
      });
  });
}

/** Enums and truth values are whole numbers in this format. */
function writeAttribute(attribute: WrittenAttribute, writer: ProtoWriter): void {
  switch (attribute.kind) {
    case 'ints':
      writer.writeMessage(1, attribute.value, (values, list) => list.writePackedInt64(3, values));
      break;
    case 'string':
      writer.writeString(2, attribute.value);
      break;
    case 'int':
      writer.writeInt64(3, attribute.value);
      break;
    case 'float':
      writer.writeFloat(4, attribute.value);
      break;
    case 'bool':
      writer.writeInt64(5, Number(attribute.value));
      break;
    case 'type':
      writer.writeInt64(6, TYPE_NUMBER[attribute.value]);
      break;
    case 'shape':
      writer.writeMessage(7, attribute.value, writeShape);
      break;
    case 'tensor':
      writer.writeMessage(8, attribute, ({ values, shape, dtype }, tensor) => {
        if (values.length !== sizeOf(shape))
          throw new Error(`${values.length} values for a constant of shape [${shape.join(', ')}]`);
        tensor.writeInt64(1, TYPE_NUMBER[dtype]);
        tensor.writeMessage(2, shape, writeShape);
        writeValues(tensor, values, dtype);
      });
  }
}

function writeShape(shape: readonly number[], writer: ProtoWriter): void {
  for (const extent of shape)
    writer.writeMessage(2, extent, (size, dimension) => dimension.writeInt64(1, size));
}

/** A value that all elements have is written once. */
function writeValues(writer: ProtoWriter, values: ConstantValues, dtype: ElementType): void {
  const [first] = values;
  // Zeros of different sign are different values, which `===` does not see.
  if (first === undefined || !values.every((value) => Object.is(value, first)))
    writer.writeBytes(4, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  else if (dtype === 'float32') writer.writeFloat(5, first);
  else writer.writeInt64(dtype === 'int32' ? 7 : 11, first);
}

interface NativeGraph {
  /** @param inputs in the order and with the shapes of the graph's inputs. The caller owns the results. */
  run(inputs: tfjs.Tensor[]): tfjs.Tensor[];
  /** Frees the native session. */
  dispose(): void;
}

export function loadGraph(
  backend: NativeBackend,
  { bytes, inputCount, resultCount }: SavedModel,
): NativeGraph {
  const namesOf = (kind: string, count: number): string =>
    Array.from({ length: count }, (_, index) => `${kind}_${index}:0`).join(',');
  const [fed, fetched] = [namesOf('input', inputCount), namesOf('result', resultCount)];
  const model = loadModel(backend, bytes);
  return {
    run: (inputs) =>
      resultCount === 0
        ? []
        : backend.binding
            .runSavedModel(model, backend.getInputTensorIds(inputs), fed, fetched)
            .map((result) => backend.createOutputTensor(result)),
    dispose: () => backend.binding.deleteSavedModel(model),
  };
}

function loadModel({ binding }: NativeBackend, bytes: Uint8Array): number {
  const folder = mkdtempSync(join(tmpdir(), `qianmo-graph-${process.pid}-`));
  try {
    writeFileSync(join(folder, 'saved_model.pb'), bytes);
    return binding.loadSavedModel(folder, TAG);
  } catch (cause) {
    throw errorOf('environment', 'TensorFlow does not load a captured graph', {
      ...(cause instanceof Error ? { found: cause.message } : {}),
      cure: `check that ${tmpdir()} is writable; if it is, report this as a bug of the capture`,
      cause,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
