/**
 * Records one eager execution of a function. The backend's binding is replaced by a derived one, which
 * notes every tensor that is made and every operation that is executed. Tensor ids are never reused,
 * so an id identifies a value of the graph.
 *
 * Tensors that the function closes over are read once and become constants of the graph; they may be
 * disposed afterwards. The function takes and returns nested structures of tensors. Their order when flattened
 * depends on the structure alone: lists by index, records by sorted name.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { NativeAttribute, NativeBackend, NativeBinding } from '../native-backend.js';
import {
  type Graph,
  type GraphNode,
  type GraphValue,
  type ValueType,
  type Attribute,
  type Attributes,
  type ConstantValues,
  type ElementType,
  typeOf,
} from '../graph.js';
import { TYPE_NUMBER } from './saved-model.js';

/** Declare records as type aliases: the compiler does not accept an interface as a record. */
export type TensorStructure =
  tfjs.Tensor | readonly TensorStructure[] | { readonly [name: string]: TensorStructure };

/** A tensor and its path in the structure: `support.labels`, `layers[0]`; empty at the top. */
interface TensorLeaf {
  readonly path: string;
  readonly tensor: tfjs.Tensor;
}

function isTensor(structure: unknown): structure is tfjs.Tensor {
  return (
    typeof structure === 'object' &&
    structure !== null &&
    'dataId' in structure &&
    'dtype' in structure
  );
}

/** Only plain objects count: a promise or a map would otherwise pass for an empty record. */
function isRecord(structure: unknown): structure is Record<string, unknown> {
  if (typeof structure !== 'object' || structure === null) return false;
  const prototype: unknown = Object.getPrototypeOf(structure);
  return prototype === Object.prototype || prototype === null;
}

/** By code units, which depend on no locale. */
function sortedEntries<Member>(record: Readonly<Record<string, Member>>): [string, Member][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
}

type Form<Leaf> = Leaf | Form<Leaf>[] | { [name: string]: Form<Leaf> };

/**
 * The structure with a value in the place of each tensor.
 *
 * @throws TypeError for a value that is no tensor, list or record.
 */
function formOf<Leaf>(
  structure: unknown,
  leafOf: (tensor: tfjs.Tensor, path: string) => Leaf,
  path = '',
): Form<Leaf> {
  if (isTensor(structure)) return leafOf(structure, path);
  if (Array.isArray(structure))
    return structure.map((member, place) => formOf(member, leafOf, `${path}[${place}]`));
  if (!isRecord(structure))
    throw new TypeError(`${path || 'the whole structure'} is no tensor, list or record of tensors`);
  return Object.fromEntries(
    sortedEntries(structure).map(([name, member]) => [
      name,
      formOf(member, leafOf, path === '' ? name : `${path}.${name}`),
    ]),
  );
}

/** @throws TypeError for a value that is no tensor, list or record. */
export function leavesOf(structure: TensorStructure): TensorLeaf[] {
  const leaves: TensorLeaf[] = [];
  formOf(structure, (tensor, path) => leaves.push({ path, tensor }));
  return leaves;
}

/** The same structure with its tensors replaced, in the order of `leavesOf`. */
export function withLeaves<Structure extends TensorStructure>(
  structure: Structure,
  tensors: readonly tfjs.Tensor[],
): Structure {
  // Lists and records keep their form, so the type is the same.
  return filledForm(plainForm(structure), tensors) as Structure;
}

/** Equal for structures that one graph can serve: same paths, shapes and element types. */
export function signatureOf(structure: TensorStructure): string {
  return JSON.stringify(formOf(structure, ({ dtype, shape }) => `${dtype}[${shape.join()}]`));
}

/** A structure without its tensors, as JSON: 0 stands for each tensor. */
export type PlainForm = Form<0>;

export function plainForm(structure: TensorStructure): PlainForm {
  return formOf(structure, () => 0);
}

/** The structure of this form with these tensors, in the order of `leavesOf`. */
export function filledForm(form: PlainForm, tensors: readonly tfjs.Tensor[]): TensorStructure {
  let next = 0;
  const filled = (part: PlainForm): TensorStructure => {
    if (part === 0) {
      const tensor = tensors[next];
      if (tensor === undefined) throw new Error(`only ${tensors.length} tensors for a structure`);
      next += 1;
      return tensor;
    }
    if (Array.isArray(part)) return part.map(filled);
    return Object.fromEntries(sortedEntries(part).map(([name, member]) => [name, filled(member)]));
  };
  return filled(form);
}

/**
 * Type attributes that the addon does not set, by the name of the attribute and the input that has the
 * type. TensorFlow infers them for eager operations but not in graphs.
 */
const INFERRED_TYPES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  ExpandDims: { T: 0 },
};

type NativeTensor = ReturnType<NativeBinding['executeOp']>[number];

const ELEMENT_TYPES: readonly ElementType[] = ['float32', 'int32', 'bool'];

/** @throws QianmoError when `what` has a type that cannot be captured: strings, complex numbers, int64, resources. */
function capturedTypeOf(typeNumber: number, what: string): ElementType {
  const type = ELEMENT_TYPES.find((each) => TYPE_NUMBER[each] === typeNumber);
  if (type !== undefined) return type;
  throw refusal({
    what: `${what} cannot be captured`,
    expected: 'element type float32, int32 or bool',
    found: `TensorFlow's type number ${typeNumber}`,
    cure: 'do this step outside of the captured function',
  });
}

/** A copy, since the owner of the values may change them later. */
function constantValuesOf(values: unknown, type: ElementType): ConstantValues {
  if (type === 'float32' && values instanceof Float32Array) return values.slice();
  if (type === 'int32' && values instanceof Int32Array) return values.slice();
  if (type === 'bool' && values instanceof Uint8Array) return values.slice();
  throw new Error(`the values of a tensor of type ${type} are of another type`);
}

function attributesOf(
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
      if (typeof value !== 'boolean') throw wrong();
      return { kind: 'bool', value };
    case binding.TF_ATTR_INT:
      if (isListOfNumbers(value)) return { kind: 'ints', value: [...value] };
      if (typeof value !== 'number') throw wrong();
      return { kind: 'int', value };
    case binding.TF_ATTR_FLOAT:
      if (typeof value !== 'number') throw wrong();
      return { kind: 'float', value };
    case binding.TF_ATTR_STRING:
      if (typeof value !== 'string') throw wrong();
      return { kind: 'string', value };
    case binding.TF_ATTR_SHAPE:
      if (!isListOfNumbers(value)) throw wrong();
      return { kind: 'shape', value: [...value] };
    default:
      throw wrong();
  }
}

function isListOfNumbers(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((member) => typeof member === 'number');
}

interface Recording<Out extends TensorStructure> {
  readonly graph: Graph;
  /** The structure of the results; its tensors are disposed. */
  readonly output: Out;
}

const recordingBindings = new WeakSet<NativeBinding>();

/** Returns whether a recording is in progress. */
export function isRecording(backend: NativeBackend): boolean {
  return recordingBindings.has(backend.binding);
}

/** Leaves no tensor behind, whether it returns or throws. */
export function recordGraph<In extends TensorStructure, Out extends TensorStructure>(
  tf: typeof tfjs,
  backend: NativeBackend,
  compute: (input: In) => Out,
  example: In,
): Recording<Out> {
  const { binding } = backend;
  const recordings: Recording<Out>[] = [];
  tf.tidy(() => {
    const recorder = new GraphRecorder(binding);
    const leaves = leavesOf(example);
    // Copies, since one tensor may occur twice in the input and may be closed over as well.
    const ids = backend.getInputTensorIds(leaves.map(({ tensor }) => tensor));
    const inputs = ids.map((id, index) =>
      backend.createOutputTensor(recorder.addInput(id, leaves[index]?.path ?? '')),
    );
    backend.binding = recorder.derivedBinding();
    recordingBindings.add(backend.binding);
    try {
      const output = withoutUnseededRandomness(() => compute(withLeaves(example, inputs)));
      const results = backend
        .getInputTensorIds(leavesOf(output).map(({ tensor }) => tensor))
        .map((id) => recorder.valueOf(id));
      recorder.throwRefusal();
      recordings.push({ graph: { inputs: recorder.inputs, results }, output });
    } finally {
      backend.binding = binding;
    }
  });
  const [recording] = recordings;
  if (recording === undefined) throw new Error('nothing was recorded');
  return recording;
}

class GraphRecorder {
  readonly inputs: GraphNode[] = [];
  readonly #binding: NativeBinding;
  readonly #values = new Map<number, GraphValue>();
  readonly #pathOfInput = new Map<GraphNode, string>();
  /** Ids of values that depend on the inputs and so differ from call to call. */
  readonly #varying = new Set<GraphNode>();
  #refusal: QianmoError | null = null;

  constructor(binding: NativeBinding) {
    this.#binding = binding;
  }

  /** A copy of the tensor, which represents the input during the recording. */
  addInput(id: number, path: string): NativeTensor {
    const copy = this.#copyOf(id);
    const type = this.#typeOfNew(copy, `the input ${path || 'itself'}`, [copy]);
    const node = { op: 'Placeholder', inputs: [], attributes: {}, outputs: [type], constant: null };
    this.inputs.push(node);
    this.#pathOfInput.set(node, path);
    this.#varying.add(node);
    this.#values.set(copy.id, { node, output: 0 });
    return copy;
  }

  valueOf(id: number): GraphValue {
    return this.#values.get(id) ?? this.#closedOver(id);
  }

  /** The first refusal; it counts even if the function caught it. */
  throwRefusal(): void {
    if (this.#refusal !== null) throw this.#refusal;
  }

  derivedBinding(): NativeBinding {
    const overrides: Partial<NativeBinding> = {
      createTensor: (shape, dtype, values) =>
        this.#refusing(() => this.#createTensor(shape, dtype, values)),
      executeOp: (name, attributes, inputIds, outputCount) =>
        this.#refusing(() => this.#executeOp(name, attributes, inputIds, outputCount)),
      tensorDataSync: (id) => this.#refusing(() => this.#read(id)),
    };
    // The addon's methods are read-only, so they are hidden by properties and not assigned.
    return Object.create(
      this.#binding,
      Object.fromEntries(Object.entries(overrides).map(([name, value]) => [name, { value }])),
    ) as NativeBinding;
  }

  #refusing<Result>(act: () => Result): Result {
    try {
      return act();
    } catch (error) {
      if (this.#refusal === null && error instanceof QianmoError && error.kind === 'usage')
        this.#refusal = error;
      throw error;
    }
  }

  #createTensor(shape: number[], dtype: number, values: ArrayBufferView): number {
    const type = { shape: [...shape], dtype: capturedTypeOf(dtype, 'a constant') };
    const node = constantNode(type, constantValuesOf(values, type.dtype));
    const id = this.#binding.createTensor(shape, dtype, values);
    this.#values.set(id, { node, output: 0 });
    return id;
  }

  #executeOp(
    name: string,
    nativeAttributes: NativeAttribute[],
    inputIds: number[],
    outputCount: number,
  ): NativeTensor[] {
    const inputs = inputIds.map((id) => this.valueOf(id));
    const attributes = attributesOf(this.#binding, name, nativeAttributes, inputs);
    const results = this.#binding.executeOp(name, nativeAttributes, inputIds, outputCount);
    const outputs = results.map((result) =>
      this.#typeOfNew(result, `the operation ${name}`, results),
    );
    const node: GraphNode = { op: name, inputs, attributes, outputs, constant: null };
    if (inputs.some((input) => this.#varying.has(input.node))) this.#varying.add(node);
    for (const [output, { id }] of results.entries()) this.#values.set(id, { node, output });
    return results;
  }

  /** If the type is refused, frees the new values, which no tensor owns yet. */
  #typeOfNew(
    { shape, dtype }: NativeTensor,
    what: string,
    made: readonly NativeTensor[],
  ): ValueType {
    try {
      return { shape: [...shape], dtype: capturedTypeOf(dtype, what) };
    } catch (error) {
      for (const { id } of made) this.#binding.deleteTensor(id);
      throw error;
    }
  }

  #read(id: number): ArrayBufferView {
    const { node } = this.valueOf(id);
    // A value that depends on constants alone is the same in every call.
    if (!this.#varying.has(node)) return this.#binding.tensorDataSync(id);
    const path = this.#pathOfInput.get(node);
    throw refusal({
      what: 'a value is read back in the middle of a captured function',
      expected: 'tensors all the way to the results',
      found: path === undefined ? `the result of ${node.op}` : `the input ${path || 'itself'}`,
      cure: 'read results after the call; to gather rows use gatherRows (tf.gather reads its indices)',
    });
  }

  #closedOver(id: number): GraphValue {
    const copy = this.#copyOf(id);
    const what = 'a tensor made outside of the captured function';
    const type = this.#typeOfNew(copy, what, [copy]);
    this.#binding.deleteTensor(copy.id);
    const values = constantValuesOf(this.#binding.tensorDataSync(id), type.dtype);
    const value = { node: constantNode(type, values), output: 0 };
    this.#values.set(id, value);
    return value;
  }

  /** A copy that shares the data. It also tells the shape and type behind an id. */
  #copyOf(id: number): NativeTensor {
    const [copy] = this.#binding.executeOp('Identity', [], [id], 1);
    if (copy === undefined) throw new Error('Identity gave no result');
    return copy;
  }
}

function constantNode(type: ValueType, constant: GraphNode['constant']): GraphNode {
  return { op: 'Const', inputs: [], attributes: {}, outputs: [type], constant };
}

/**
 * Random tensors are drawn in JavaScript and reach the backend as plain values. They are detected
 * because the library asks `Math.random` for a seed if it is given none.
 */
function withoutUnseededRandomness<Result>(act: () => Result): Result {
  const original = Reflect.getOwnPropertyDescriptor(Math, 'random');
  if (original === undefined) throw new Error('Math has no random');
  const drawn: Error[] = [];
  const refused = (): Error =>
    refusal({
      what: 'a random tensor without a seed cannot be captured',
      expected: 'results that depend on the inputs alone',
      cure: 'give a seed, or draw outside and pass the result in',
    });
  Reflect.defineProperty(Math, 'random', {
    configurable: true,
    writable: true,
    value: () => {
      const error = refused();
      drawn.push(error);
      throw error;
    },
  });
  try {
    const result = act();
    // The function may have swallowed the error.
    if (drawn[0] !== undefined) throw drawn[0];
    return result;
  } finally {
    Reflect.defineProperty(Math, 'random', original);
  }
}

/** An error that names the line of the captured function that is being executed. */
function refusal(report: {
  readonly what: string;
  readonly expected?: string;
  readonly found?: string;
  readonly cure: string;
}): QianmoError {
  const where = callingLine();
  return new QianmoError({ kind: 'usage', ...report, ...(where === null ? {} : { where }) });
}

/** Gradients and nested scopes of the library add many frames between caller and recorder. */
const STACK_FRAMES_MAX = 200;
const OWN_FOLDER = new URL('.', import.meta.url);

/** `file:line` of the nearest frame outside this folder and all packages; null if there is none. */
function callingLine(): string | null {
  const framesMax = Error.stackTraceLimit;
  Error.stackTraceLimit = STACK_FRAMES_MAX;
  const { stack = '' } = new Error('where');
  Error.stackTraceLimit = framesMax;
  for (const frame of stack.split('\n').slice(1)) {
    const place = /\(?((?:file:\/\/)?\/[^()]*):(\d+):\d+\)?$/.exec(frame.trim());
    if (place === null) continue;
    const [, address = '', line = ''] = place;
    const path = address.replace(/^file:\/\//, '');
    if (path.includes('/node_modules/') || path.startsWith(OWN_FOLDER.pathname)) continue;
    return `${path}:${line}`;
  }
  return null;
}
