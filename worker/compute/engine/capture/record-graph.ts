/**
 * Records one eager execution of a function. The backend's binding is replaced by a derived one, which
 * notes every tensor that is made and every operation that is executed. Tensor ids are never reused,
 * so an id identifies a value of the graph.
 *
 * Tensors that the function closes over are read once and become constants of the graph; they may be
 * disposed afterwards. Variables are refused, since the graph would not see later assignments.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { QianmoError } from '../../../../shared/base/errors.js';
import type {
  NativeAttribute,
  NativeBackend,
  NativeBinding,
  NativeTensor,
} from '../native-backend.js';
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
} from '../graph/graph.js';
import { isRefusal, refusal, refuseByName } from './refusal.js';
import { leavesOf, withLeaves, type TensorStructure } from './tensor-structure.js';
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
function capturedTypeOf(typeNumber: number, what: string): ElementType {
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

interface Recording<Out extends TensorStructure> {
  readonly graph: Graph;
  /** Paths of the inputs in their structure, in the order of the graph's inputs. */
  readonly inputPaths: readonly string[];
  readonly resultPaths: readonly string[];
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
  if (isRecording(backend))
    throw refusal({
      what: 'a capture begins while another one is recording',
      cure: 'create captures outside captured functions and call them inside',
    });
  const recordings: Recording<Out>[] = [];
  tf.tidy(() => {
    recordings.push(recordedInScope(tf, backend, compute, example));
  });
  const [recording] = recordings;
  if (recording === undefined) throw new Error('nothing was recorded');
  return recording;
}

function recordedInScope<In extends TensorStructure, Out extends TensorStructure>(
  tf: typeof tfjs,
  backend: NativeBackend,
  compute: (input: In) => Out,
  example: In,
): Recording<Out> {
  const binding = backend.binding;
  const variables = variablesBefore(tf, backend);
  const recorder = new GraphRecorder(binding, variables);
  const leaves = leavesOf(example);
  // Copies, since one tensor may occur twice in the input and may be closed over as well.
  const ids = backend.getInputTensorIds(leaves.map(({ tensor }) => tensor));
  const inputs = ids.map((id, index) =>
    backend.createOutputTensor(recorder.addInput(id, leaves[index]?.path ?? '')),
  );
  const recordingBinding = recorder.derivedBinding();
  recordingBindings.add(recordingBinding);
  backend.binding = recordingBinding;
  try {
    const output = withoutUnseededRandomness(() => compute(withLeaves(example, inputs)));
    refusePromise(output);
    const outputLeaves = leavesOf(output);
    const results = backend
      .getInputTensorIds(outputLeaves.map(({ tensor }) => tensor))
      .map((id) => recorder.valueOf(id));
    recorder.throwRefusal();
    refuseAssignments(tf, variables);
    return {
      graph: { inputs: recorder.inputs, results },
      inputPaths: leaves.map(({ path }) => path),
      resultPaths: outputLeaves.map(({ path }) => path),
      output,
    };
  } finally {
    backend.binding = binding;
  }
}

class GraphRecorder {
  readonly inputs: GraphNode[] = [];
  readonly #binding: NativeBinding;
  readonly #variables: VariablesBefore;
  readonly #values = new Map<number, GraphValue>();
  readonly #pathOfInput = new Map<GraphNode, string>();
  /** Ids of values that depend on the inputs and so differ from call to call. */
  readonly #varying = new Set<GraphNode>();
  #refusal: QianmoError | null = null;

  constructor(binding: NativeBinding, variables: VariablesBefore) {
    this.#binding = binding;
    this.#variables = variables;
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
      runSavedModel: () =>
        this.#refusing(() => {
          throw refusal({
            what: 'a loaded model cannot be captured',
            cure: 'call its function, or run it outside of the captured function',
          });
        }),
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
      if (this.#refusal === null && isRefusal(error)) this.#refusal = error;
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
    refuseByName(name);
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
    const name = this.#variables.nameById.get(id);
    if (name !== undefined)
      throw refusal({
        what: `the captured function uses the variable ${name}, whose later values it would not see`,
        cure: 'pass the variable in as an input',
      });
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

function refusePromise(output: unknown): void {
  if (!(output instanceof Promise)) return;
  // If the promise rejects, the refusal is the cause.
  output.catch(() => undefined);
  throw refusal({
    what: 'the captured function is asynchronous',
    cure: 'return tensors, not a promise of them',
  });
}

interface VariablesBefore {
  readonly nameById: ReadonlyMap<number, string>;
  /** An assignment gives a variable another data id. */
  readonly dataByName: ReadonlyMap<string, object>;
}

function variablesBefore(tf: typeof tfjs, backend: NativeBackend): VariablesBefore {
  const variables = Object.values(tf.engine().registeredVariables);
  const ids = backend.getInputTensorIds(variables);
  return {
    nameById: new Map(ids.map((id, index) => [id, variables[index]?.name ?? ''])),
    dataByName: new Map(variables.map(({ name, dataId }) => [name, dataId])),
  };
}

function refuseAssignments(tf: typeof tfjs, before: VariablesBefore): void {
  for (const { name, dataId } of Object.values(tf.engine().registeredVariables)) {
    if (before.dataByName.get(name) === dataId) continue;
    const made = !before.dataByName.has(name);
    throw refusal({
      what: `the captured function ${made ? 'makes' : 'assigns to'} the variable ${name}`,
      expected: 'no effect but its results',
      cure: 'return the value and assign it after the call',
    });
  }
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
