/** Writes a graph as a SavedModel, the only format that the addon loads. */

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
} from '../graph/graph.js';
import { createRequire } from 'node:module';

interface ShapeMessage {
  setDimList(dims: DimMessage[]): void;
}
interface DimMessage {
  setSize(size: number): void;
}
interface TensorMessage {
  setDtype(dtype: number): void;
  setTensorShape(shape: ShapeMessage): void;
  setTensorContent(bytes: Uint8Array): void;
  setFloatValList(values: number[]): void;
  setIntValList(values: number[]): void;
  setBoolValList(values: boolean[]): void;
}
interface ListMessage {
  setBList(values: boolean[]): void;
  setIList(values: number[]): void;
  setFList(values: number[]): void;
  setSList(values: Uint8Array[]): void;
}
interface AttributeMessage {
  setType(type: number): void;
  setB(value: boolean): void;
  setI(value: number): void;
  setF(value: number): void;
  setS(value: Uint8Array): void;
  setShape(shape: ShapeMessage): void;
  setTensor(tensor: TensorMessage): void;
  setList(list: ListMessage): void;
}
interface NodeMessage {
  setName(name: string): void;
  setOp(op: string): void;
  setInputList(inputs: string[]): void;
  getAttrMap(): Map<string, AttributeMessage>;
}
interface VersionMessage {
  setProducer(version: number): void;
  setMinConsumer(version: number): void;
}
interface GraphMessage {
  setVersions(version: VersionMessage): void;
  setNodeList(nodes: NodeMessage[]): void;
}
interface TensorInfoMessage {
  setName(name: string): void;
  setDtype(dtype: number): void;
  setTensorShape(shape: ShapeMessage): void;
}
interface SignatureMessage {
  getInputsMap(): Map<string, TensorInfoMessage>;
  getOutputsMap(): Map<string, TensorInfoMessage>;
  setMethodName(name: string): void;
}
interface MetaInfoMessage {
  setTagsList(tags: string[]): void;
}
interface MetaGraphMessage {
  setMetaInfoDef(info: MetaInfoMessage): void;
  setGraphDef(graph: GraphMessage): void;
  getSignatureDefMap(): Map<string, SignatureMessage>;
}
interface SavedModelMessage {
  setSavedModelSchemaVersion(version: number): void;
  setMetaGraphsList(graphs: MetaGraphMessage[]): void;
  serializeBinary(): Uint8Array;
}

interface SavedModelMessages {
  readonly TensorShape: (new () => ShapeMessage) & { readonly Dim: new () => DimMessage };
  readonly Tensor: new () => TensorMessage;
  readonly AttrValue: (new () => AttributeMessage) & { readonly ListValue: new () => ListMessage };
  readonly NodeDef: new () => NodeMessage;
  readonly VersionDef: new () => VersionMessage;
  readonly GraphDef: new () => GraphMessage;
  readonly TensorInfo: new () => TensorInfoMessage;
  readonly SignatureDef: new () => SignatureMessage;
  readonly MetaGraphDef: (new () => MetaGraphMessage) & {
    readonly MetaInfoDef: new () => MetaInfoMessage;
  };
  readonly SavedModel: new () => SavedModelMessage;
}

const require = createRequire(import.meta.url);
/** Every addon contains the same generated code. */
const MESSAGE_FILES = [
  '@tensorflow/tfjs-node-gpu/dist/proto/api_pb.js',
  '@tensorflow/tfjs-node/dist/proto/api_pb.js',
] as const;
let messages: SavedModelMessages | null = null;

/** Loaded at the first use: only a native backend has them. */
function savedModelMessages(): SavedModelMessages {
  messages ??= loadedMessages();
  return messages;
}

function loadedMessages(): SavedModelMessages {
  const causes: unknown[] = [];
  for (const file of MESSAGE_FILES) {
    try {
      // Generated JavaScript without types; the interfaces above are the part that is used.
      return require(file) as SavedModelMessages;
    } catch (error) {
      causes.push(error);
    }
  }
  throw new AggregateError(causes, 'no TensorFlow addon contains the messages of a SavedModel');
}

/** TensorFlow's numbers for the element types. */
export const TYPE_NUMBER: Readonly<Record<ElementType, number>> = {
  float32: 1,
  int32: 3,
  bool: 10,
};

/** The graph version of TensorFlow 2.9, the oldest library that the addon is built with. */
const GRAPH_VERSION = 1087;
const SAVED_MODEL_VERSION = 1;
export const TAG = 'serve';
/** Messages of 2 GiB cannot be read. A table of that size should be an input, not a constant. */
const CONSTANT_BYTES_MAX = 1 << 30;

/** Names of inputs and results in a signature: `support.labels`. */
export interface SignatureNames {
  readonly inputs: readonly string[];
  readonly results: readonly string[];
}

interface WrittenBytes {
  readonly bytes: Uint8Array;
  readonly nodeCount: number;
}

/** With `signature`, other programs can serve the model under `serving_default`. */
export function savedModelOf(graph: Graph, signature: SignatureNames | null): WrittenBytes {
  const { SavedModel, MetaGraphDef } = savedModelMessages();
  const { message, nodeCount } = graphMessage(graph);
  const inputNames = inputNamesOf(graph.inputs.length);
  const resultNames = resultNamesOf(graph.results.length);
  const metaInfo = new MetaGraphDef.MetaInfoDef();
  metaInfo.setTagsList([TAG]);
  const metaGraph = new MetaGraphDef();
  metaGraph.setMetaInfoDef(metaInfo);
  metaGraph.setGraphDef(message);
  if (signature !== null) {
    const inputs = graph.inputs.map((node) => typeOf({ node, output: 0 }));
    const definition = signatureMessage(
      named(signature.inputs, inputNames, inputs),
      named(signature.results, resultNames, graph.results.map(typeOf)),
    );
    metaGraph.getSignatureDefMap().set('serving_default', definition);
  }
  const model = new SavedModel();
  model.setSavedModelSchemaVersion(SAVED_MODEL_VERSION);
  model.setMetaGraphsList([metaGraph]);
  return { bytes: model.serializeBinary(), nodeCount };
}

/** `input_0:0`, one for each input of a written graph. */
export function inputNamesOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `input_${index}:0`);
}

/** `result_0:0`, one for each result, even where two results are one value. */
export function resultNamesOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `result_${index}:0`);
}

function graphMessage(graph: Graph): { message: GraphMessage; nodeCount: number } {
  const { GraphDef, VersionDef } = savedModelMessages();
  const nodes = nodesInOrder(graph);
  refuseLargeConstants(nodes);
  const names = new Map<GraphNode, string>();
  for (const [index, node] of graph.inputs.entries()) names.set(node, `input_${index}`);
  for (const node of nodes) if (!names.has(node)) names.set(node, `${node.op}_${names.size}`);
  const referenceTo = ({ node, output }: GraphValue): string => {
    const name = names.get(node) ?? '';
    return output === 0 ? name : `${name}:${output}`;
  };
  const messages = nodes.map((node) =>
    nodeMessage(names.get(node) ?? '', node, node.inputs.map(referenceTo)),
  );
  // An input, a constant or one value twice may be results: each result is a node of its own.
  for (const [index, result] of graph.results.entries()) {
    const T: Attribute = { kind: 'type', value: typeOf(result).dtype };
    const attributes = new Map([['T', attributeMessage(T)]]);
    messages.push(plainNode(`result_${index}`, 'Identity', [referenceTo(result)], attributes));
  }
  const version = new VersionDef();
  version.setProducer(GRAPH_VERSION);
  version.setMinConsumer(0);
  const message = new GraphDef();
  message.setVersions(version);
  message.setNodeList(messages);
  return { message, nodeCount: messages.length };
}

function refuseLargeConstants(nodes: readonly GraphNode[]): void {
  const byteCount = nodes.reduce((sum, { constant }) => sum + (constant?.byteLength ?? 0), 0);
  if (byteCount > CONSTANT_BYTES_MAX)
    throw new Error(
      `the graph holds ${byteCount} bytes of constants, more than ${CONSTANT_BYTES_MAX}: ` +
        'pass large tensors as inputs',
    );
}

function nodeMessage(name: string, node: GraphNode, inputs: string[]): NodeMessage {
  const attributes = new Map<string, AttributeMessage>();
  const { op, constant } = node;
  if (op === 'Placeholder' || constant !== null) {
    const type = typeOf({ node, output: 0 });
    attributes.set('dtype', attributeMessage({ kind: 'type', value: type.dtype }));
    if (constant === null)
      attributes.set('shape', attributeMessage({ kind: 'shape', value: type.shape }));
    else attributes.set('value', constantMessage(constant, type));
  } else {
    for (const [key, attribute] of Object.entries(node.attributes))
      attributes.set(key, attributeMessage(attribute));
  }
  return plainNode(name, op, inputs, attributes);
}

function plainNode(
  name: string,
  op: string,
  inputs: string[],
  attributes: ReadonlyMap<string, AttributeMessage>,
): NodeMessage {
  const message = new (savedModelMessages().NodeDef)();
  message.setName(name);
  message.setOp(op);
  message.setInputList(inputs);
  for (const [key, attribute] of attributes) message.getAttrMap().set(key, attribute);
  return message;
}

function attributeMessage(attribute: Attribute): AttributeMessage {
  const { AttrValue } = savedModelMessages();
  const message = new AttrValue();
  const list = new AttrValue.ListValue();
  switch (attribute.kind) {
    case 'type':
      message.setType(TYPE_NUMBER[attribute.value]);
      return message;
    case 'bool':
      message.setB(attribute.value);
      return message;
    case 'int':
      message.setI(attribute.value);
      return message;
    case 'float':
      message.setF(attribute.value);
      return message;
    case 'string':
      message.setS(bytesOf(attribute.value));
      return message;
    case 'shape':
      message.setShape(shapeMessage(attribute.value));
      return message;
    case 'bools':
      list.setBList([...attribute.value]);
      break;
    case 'ints':
      list.setIList([...attribute.value]);
      break;
    case 'floats':
      list.setFList([...attribute.value]);
      break;
    case 'strings':
      list.setSList(attribute.value.map(bytesOf));
      break;
  }
  message.setList(list);
  return message;
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function shapeMessage(shape: readonly number[]): ShapeMessage {
  const { TensorShape } = savedModelMessages();
  const message = new TensorShape();
  message.setDimList(
    shape.map((extent) => {
      const dim = new TensorShape.Dim();
      dim.setSize(extent);
      return dim;
    }),
  );
  return message;
}

function constantMessage(values: ConstantValues, { shape, dtype }: ValueType): AttributeMessage {
  if (values.length !== sizeOf(shape))
    throw new Error(`${values.length} values for a constant of shape [${shape.join(', ')}]`);
  const { AttrValue, Tensor } = savedModelMessages();
  const tensor = new Tensor();
  tensor.setDtype(TYPE_NUMBER[dtype]);
  tensor.setTensorShape(shapeMessage(shape));
  const [first] = values;
  // Zeros of different sign are different values, which `===` does not see.
  if (first !== undefined && values.every((value) => Object.is(value, first)))
    setUniform(tensor, dtype, first);
  else tensor.setTensorContent(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const message = new AttrValue();
  message.setTensor(tensor);
  return message;
}

/** All elements have one value, which is written once. */
function setUniform(tensor: TensorMessage, dtype: ElementType, value: number): void {
  switch (dtype) {
    case 'float32':
      tensor.setFloatValList([value]);
      break;
    case 'int32':
      tensor.setIntValList([value]);
      break;
    case 'bool':
      tensor.setBoolValList([value !== 0]);
      break;
  }
}

interface NamedPlace {
  readonly name: string;
  readonly node: string;
  readonly type: ValueType;
}

function named(
  names: readonly string[],
  nodes: readonly string[],
  types: readonly ValueType[],
): NamedPlace[] {
  return types.map((type, index) => ({
    name: names[index] ?? String(index),
    node: nodes[index] ?? '',
    type,
  }));
}

function signatureMessage(
  inputs: readonly NamedPlace[],
  results: readonly NamedPlace[],
): SignatureMessage {
  const { SignatureDef, TensorInfo } = savedModelMessages();
  const signature = new SignatureDef();
  signature.setMethodName('tensorflow/serving/predict');
  const fill = (
    map: ReturnType<SignatureMessage['getInputsMap']>,
    places: readonly NamedPlace[],
  ) => {
    for (const { name, node, type } of places) {
      const info = new TensorInfo();
      info.setName(node);
      info.setDtype(TYPE_NUMBER[type.dtype]);
      info.setTensorShape(shapeMessage(type.shape));
      map.set(name, info);
    }
  };
  fill(signature.getInputsMap(), inputs);
  fill(signature.getOutputsMap(), results);
  return signature;
}
