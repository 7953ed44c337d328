/** Types of the SavedModel messages that are written here, from the addon's generated code. */

import { createRequire } from 'node:module';

export interface ShapeMessage {
  setDimList(dims: DimMessage[]): void;
}
interface DimMessage {
  setSize(size: number): void;
}
export interface TensorMessage {
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
export interface AttributeMessage {
  setType(type: number): void;
  setB(value: boolean): void;
  setI(value: number): void;
  setF(value: number): void;
  setS(value: Uint8Array): void;
  setShape(shape: ShapeMessage): void;
  setTensor(tensor: TensorMessage): void;
  setList(list: ListMessage): void;
}
export interface NodeMessage {
  setName(name: string): void;
  setOp(op: string): void;
  setInputList(inputs: string[]): void;
  getAttrMap(): Map<string, AttributeMessage>;
}
interface VersionMessage {
  setProducer(version: number): void;
  setMinConsumer(version: number): void;
}
export interface GraphMessage {
  setVersions(version: VersionMessage): void;
  setNodeList(nodes: NodeMessage[]): void;
}
interface TensorInfoMessage {
  setName(name: string): void;
  setDtype(dtype: number): void;
  setTensorShape(shape: ShapeMessage): void;
}
export interface SignatureMessage {
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
export function savedModelMessages(): SavedModelMessages {
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
