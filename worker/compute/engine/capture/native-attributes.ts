/** Converts the attributes that the addon gives to the binding into the typed ones of a graph. */

import type { NativeAttribute, NativeBinding } from '../native-backend.js';
import type {
  Attribute,
  Attributes,
  ConstantValues,
  ElementType,
  GraphValue,
} from '../graph/graph.js';
import { typeOf } from '../graph/graph.js';
import { refusal } from './refusal.js';
import { TYPE_NUMBER } from './saved-model.js';

/**
 * Type attributes that the addon does not set, by the name of the attribute and the input that has the
 * type. TensorFlow infers them for eager operations but not in graphs.
 */
const INFERRED_TYPES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  ExpandDims: { T: 0 },
};

/** Null for a type that graphs here do not support: strings, complex numbers, int64, resources. */
function elementTypeOf(typeNumber: number): ElementType | null {
  switch (typeNumber) {
    case TYPE_NUMBER.float32:
      return 'float32';
    case TYPE_NUMBER.int32:
      return 'int32';
    case TYPE_NUMBER.bool:
      return 'bool';
    default:
      return null;
  }
}

/** @throws QianmoError when `what` has a type that cannot be captured. */
export function capturedTypeOf(typeNumber: number, what: string): ElementType {
  const type = elementTypeOf(typeNumber);
  if (type === null)
    throw refusal({
      what: `${what} cannot be captured`,
      expected: 'element type float32, int32 or bool',
      found: `TensorFlow's type number ${typeNumber}`,
      cure: 'do this step outside of the captured function',
    });
  return type;
}

/** A copy, since the owner of the values may change them later. */
export function constantValuesOf(values: unknown, type: ElementType): ConstantValues {
  if (type === 'float32' && values instanceof Float32Array) return values.slice();
  if (type === 'int32' && values instanceof Int32Array) return values.slice();
  if (type === 'bool' && values instanceof Uint8Array) return values.slice();
  throw new Error(`the values of a tensor of type ${type} are of another type`);
}

export function attributesOf(
  binding: NativeBinding,
  operation: string,
  attributes: readonly NativeAttribute[],
  inputs: readonly GraphValue[],
): Attributes {
  const typed: Record<string, Attribute> = {};
  for (const attribute of attributes) {
    const value = attributeOf(binding, operation, attribute);
    if (value !== null) typed[attribute.name] = value;
  }
  for (const [name, place] of Object.entries(INFERRED_TYPES[operation] ?? {})) {
    const input = inputs[place];
    if (input !== undefined) typed[name] ??= { kind: 'type', value: typeOf(input).dtype };
  }
  return typed;
}

/** Null if the addon sets no value, so that TensorFlow's default applies. */
function attributeOf(
  binding: NativeBinding,
  operation: string,
  { name, type, value }: NativeAttribute,
): Attribute | null {
  if (value === undefined || value === null) return null;
  const wrong = (): Error =>
    new Error(`attribute ${name} of ${operation} has a value that does not fit its type`);
  switch (type) {
    case binding.TF_ATTR_TYPE:
      if (typeof value !== 'number') throw wrong();
      return { kind: 'type', value: capturedTypeOf(value, `the operation ${operation}`) };
    case binding.TF_ATTR_BOOL:
      if (isListOf(value, 'boolean')) return { kind: 'bools', value: [...value] };
      if (typeof value !== 'boolean') throw wrong();
      return { kind: 'bool', value };
    case binding.TF_ATTR_INT:
      if (isListOf(value, 'number')) return { kind: 'ints', value: [...value] };
      if (typeof value !== 'number') throw wrong();
      return { kind: 'int', value };
    case binding.TF_ATTR_FLOAT:
      if (isListOf(value, 'number')) return { kind: 'floats', value: [...value] };
      if (typeof value !== 'number') throw wrong();
      return { kind: 'float', value };
    case binding.TF_ATTR_STRING:
      if (typeof value !== 'string') throw wrong();
      return { kind: 'string', value };
    case binding.TF_ATTR_SHAPE:
      if (!isListOf(value, 'number')) throw wrong();
      return { kind: 'shape', value: [...value] };
    default:
      throw wrong();
  }
}

function isListOf(value: unknown, type: 'number'): value is readonly number[];
function isListOf(value: unknown, type: 'boolean'): value is readonly boolean[];
function isListOf(value: unknown, type: 'number' | 'boolean'): boolean {
  return Array.isArray(value) && value.every((member) => typeof member === type);
}
