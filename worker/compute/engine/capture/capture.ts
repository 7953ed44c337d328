/**
 * `capture` turns a function on tensors into one that runs as a single native graph. Operations that
 * cannot be part of a graph are refused while it is recorded, with the line that called them. On a
 * portable backend the function runs eagerly behind the same interface.
 *
 * Gradients belong inside the captured function: its results are not connected to its inputs.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { systemClock } from '../../../../shared/base/clock.js';
import type { Engine } from '../load-engine.js';
import { nativeBackendOf, type NativeBackend } from '../native-backend.js';
import { rewriteGraph } from '../rewrite/rewrite-graph.js';
import { compileGraph, writtenGraph } from './compile-graph.js';
import { nodesInOrder, type Graph } from '../graph/graph.js';
import type { GraphShelf, KeptGraph } from './graph-shelf.js';
import { isRecording, recordGraph } from './record-graph.js';
import {
  leavesOf,
  filledForm,
  plainForm,
  signatureOf,
  withLeaves,
  type TensorStructure,
} from './tensor-structure.js';

export interface CaptureOptions {
  /** The name of the function in errors. */
  readonly name: string;
  /** True, the default, makes the graph cheaper, which may change low bits. */
  readonly rewrites?: boolean;
  /**
   * Where graphs of this function are kept. The function, its closure included, must be decided by what the
   * shelf is for.
   */
  readonly shelf?: GraphShelf | null;
}

export interface CaptureStatistics {
  /** Nodes of the graph that runs. On a portable backend, all of these are 0. */
  readonly nodeCount: number;
  readonly recordedNodeCount: number;
  readonly byteCount: number;
  readonly recordMs: number;
  readonly rewriteMs: number;
  readonly loadMs: number;
}

export interface Captured<In extends TensorStructure, Out extends TensorStructure> {
  /**
   * Runs natively in one call. Inside another captured function it becomes part of that graph. The
   * caller owns the results, which share no memory with the inputs; a surrounding `tf.tidy` takes them.
   *
   * @throws TypeError if the input has another structure, shape or element type than the example.
   */
  run(input: In): Out;
  /** Frees the native graph; may be called again. Running afterwards is an error. */
  dispose(): void;
  /** The graph that runs; null on a portable backend, and if it came from a shelf. */
  readonly graph: Graph | null;
  /** Places in input and output, in the order of the graph's inputs and results. */
  readonly inputPaths: readonly string[];
  readonly resultPaths: readonly string[];
  readonly statistics: CaptureStatistics;
}

/** @param example gives structure, shapes and types; the caller keeps it. */
export function capture<In extends TensorStructure, Out extends TensorStructure>(
  { tf }: Pick<Engine, 'tf'>,
  compute: (input: In) => Out,
  example: In,
  options: CaptureOptions,
): Captured<In, Out> {
  const backend = nativeBackendOf(tf);
  return backend === null
    ? eager(tf, compute, example, options)
    : compiled({ tf, backend }, compute, example, options);
}

function compiled<In extends TensorStructure, Out extends TensorStructure>(
  { tf, backend }: { readonly tf: typeof tfjs; readonly backend: NativeBackend },
  compute: (input: In) => Out,
  example: In,
  { name, rewrites = true, shelf = null }: CaptureOptions,
): Captured<In, Out> {
  const signature = shelf === null ? '' : signatureOf(example);
  const kept = shelf?.find(signature) ?? null;
  const recorded =
    kept === null ? recordedGraph({ tf, backend }, compute, example, rewrites) : null;
  const written = kept ?? recorded?.written;
  if (written === undefined) throw new Error('a graph is kept or recorded');
  if (recorded !== null) shelf?.keep(signature, recorded.written);
  const startMs = systemClock.monotonicMs();
  const inputPaths = written.inputs.map(({ path }) => path);
  const native = compileGraph(backend, { ...written, resultCount: written.resultPaths.length });
  const loadMs = systemClock.monotonicMs() - startMs;
  let isDisposed = false;
  return {
    graph: recorded?.graph ?? null,
    inputPaths,
    resultPaths: written.resultPaths,
    statistics: {
      nodeCount: written.nodeCount,
      recordedNodeCount: written.recordedNodeCount,
      byteCount: written.bytes.length,
      recordMs: recorded?.recordMs ?? 0,
      rewriteMs: recorded?.rewriteMs ?? 0,
      loadMs,
    },
    run: (input) => {
      if (isDisposed) throw ranAfterDispose(name);
      if (isRecording(backend)) return compute(input);
      // The form is that of what `compute` returned, here or in a process with the same code.
      return filledForm(written.output, native.run(tensorsAt(inputPaths, input, name))) as Out;
    },
    dispose: () => {
      isDisposed = true;
      native.dispose();
    },
  };
}

interface RecordedGraph {
  readonly graph: Graph;
  readonly written: KeptGraph;
  readonly recordMs: number;
  readonly rewriteMs: number;
}

function recordedGraph<In extends TensorStructure>(
  { tf, backend }: { readonly tf: typeof tfjs; readonly backend: NativeBackend },
  compute: (input: In) => TensorStructure,
  example: In,
  rewrites: boolean,
): RecordedGraph {
  const startMs = systemClock.monotonicMs();
  const { inputPaths, resultPaths, ...recording } = recordGraph(tf, backend, compute, example);
  const recordedMs = systemClock.monotonicMs();
  const graph = rewrites ? rewriteGraph(recording.graph) : recording.graph;
  const { bytes, nodeCount, inputs } = writtenGraph(graph, inputPaths);
  return {
    graph,
    written: {
      bytes,
      nodeCount,
      recordedNodeCount: nodesInOrder(recording.graph).length + resultPaths.length,
      inputs,
      resultPaths,
      output: plainForm(recording.output),
    },
    recordMs: recordedMs - startMs,
    rewriteMs: systemClock.monotonicMs() - recordedMs,
  };
}

const NO_STATISTICS: CaptureStatistics = {
  nodeCount: 0,
  recordedNodeCount: 0,
  byteCount: 0,
  recordMs: 0,
  rewriteMs: 0,
  loadMs: 0,
};

function eager<In extends TensorStructure, Out extends TensorStructure>(
  tf: typeof tfjs,
  compute: (input: In) => Out,
  example: In,
  { name }: CaptureOptions,
): Captured<In, Out> {
  const signature = signatureOf(example);
  let resultPaths: readonly string[] = [];
  let isDisposed = false;
  return {
    graph: null,
    inputPaths: leavesOf(example).map(({ path }) => path),
    get resultPaths() {
      return resultPaths;
    },
    statistics: NO_STATISTICS,
    run: (input) => {
      if (isDisposed) throw ranAfterDispose(name);
      if (signatureOf(input) !== signature)
        throw new TypeError(`${name}: ${signatureOf(input)} differs from ${signature}`);
      const { output, paths } = ownedResults(tf, compute, input);
      resultPaths = paths;
      return output;
    },
    dispose: () => {
      isDisposed = true;
    },
  };
}

/** Copies of the results survive the scope, so that none of them is an input or a constant. */
function ownedResults<In extends TensorStructure, Out extends TensorStructure>(
  tf: typeof tfjs,
  compute: (input: In) => Out,
  input: In,
): { output: Out; paths: readonly string[] } {
  const outputs: Out[] = [];
  const paths: string[] = [];
  const copies = tf.tidy(() => {
    const output = compute(input);
    const leaves = leavesOf(output);
    outputs.push(output);
    paths.push(...leaves.map(({ path }) => path));
    return leaves.map(({ tensor }) => tensor.clone());
  });
  const [output] = outputs;
  if (output === undefined) throw new Error('nothing was computed');
  return { output: withLeaves(output, copies), paths };
}

function tensorsAt(paths: readonly string[], input: TensorStructure, name: string): tfjs.Tensor[] {
  const leaves = leavesOf(input);
  const isSame =
    leaves.length === paths.length && leaves.every(({ path }, index) => path === paths[index]);
  if (!isSame)
    throw new TypeError(
      `${name}: captured for tensors at (${paths.join(', ')}), ` +
        `called with (${leaves.map(({ path }) => path).join(', ')})`,
    );
  return leaves.map(({ tensor }) => tensor);
}

function ranAfterDispose(name: string): Error {
  return new Error(`the captured function ${name} was disposed and cannot run`);
}
