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
import { type Graph, type GraphNode, type GraphValue, type ValueType } from '../graph/graph.js';
import { attributesOf, capturedTypeOf, constantValuesOf } from './native-attributes.js';
import {
  refuseAssignments,
  variablesBefore,
  withoutUnseededRandomness,
  type VariablesBefore,
} from './outside-state.js';
import { isRefusal, refusal, refuseByName } from './refusal.js';
import { leavesOf, withLeaves, type TensorStructure } from './tensor-structure.js';

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
