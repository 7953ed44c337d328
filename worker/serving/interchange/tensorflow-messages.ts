/** Parts of TensorFlow's messages: nodes of a graph, their attributes, tensors and shapes. */

import { ProtoWriter } from '../../../shared/formats/protobuf.js';
import type { ElementType, Extent } from './scoring-graph.js';

/** DataType */
export const TENSORFLOW_TYPE: Readonly<Record<ElementType | 'string' | 'boolean', number>> = {
  ...{ float32: 1, int32: 3, int8: 6, string: 7, boolean: 10, float16: 19 },
};

type AttributeValue =
  | { readonly type: number }
  | { readonly types: readonly number[] }
  | { readonly int: number }
  | { readonly flag: boolean }
  | { readonly text: string }
  | { readonly shape: readonly Extent[] }
  | { readonly tensor: Uint8Array };

export type Attributes = Readonly<Record<string, AttributeValue>>;

export interface TensorFlowNode {
  readonly name: string;
  readonly op: string;
  /** A name with `^` before it is waited for and not read. */
  readonly inputs: readonly string[];
  readonly attributes: Attributes;
}

/** NodeDef */
export function writeNode(
  message: ProtoWriter,
  { name, op, inputs, attributes }: TensorFlowNode,
): void {
  message.text(1, name).text(2, op);
  for (const input of inputs) message.text(3, input);
  for (const [key, value] of Object.entries(attributes))
    message.message(5, (entry) =>
      entry.text(1, key).message(2, (own) => writeAttribute(own, value)),
    );
}

/** AttrValue */
function writeAttribute(message: ProtoWriter, value: AttributeValue): void {
  if ('type' in value) message.int(6, value.type);
  else if ('types' in value) message.message(1, (list) => list.ints(6, value.types));
  else if ('int' in value) message.int(3, value.int);
  else if ('flag' in value) message.int(5, Number(value.flag));
  else if ('text' in value) message.text(2, value.text);
  else if ('shape' in value) message.message(7, (shape) => writeShape(shape, value.shape));
  else message.bytes(8, value.tensor);
}

/** TensorShapeProto */
export function writeShape(message: ProtoWriter, shape: readonly Extent[]): void {
  for (const extent of shape) message.message(2, (dim) => dim.int(1, extent ?? -1));
}

/** TensorProto */
export function tensorOf(values: Float32Array | Int32Array, shape: readonly number[]): Uint8Array {
  const { buffer, byteOffset, byteLength } = values;
  const type = values instanceof Float32Array ? TENSORFLOW_TYPE.float32 : TENSORFLOW_TYPE.int32;
  return new ProtoWriter()
    .int(1, type)
    .message(2, (message) => writeShape(message, shape))
    .bytes(4, new Uint8Array(buffer, byteOffset, byteLength))
    .finish();
}

/** A tensor of texts: one without a list, or a list of them. */
export function textsTensor(texts: string | readonly string[]): Uint8Array {
  const list = typeof texts === 'string' ? [texts] : texts;
  const message = new ProtoWriter()
    .int(1, TENSORFLOW_TYPE.string)
    .message(2, (shape) => writeShape(shape, typeof texts === 'string' ? [] : [texts.length]));
  for (const text of list) message.text(8, text);
  return message.finish();
}
