/**
 * `capture` turns a function on tensors into one that runs as native graphs, one for each shape of its input.
 * Operations that cannot be part of a graph are refused while it is recorded, with the line that called them. On a
 * portable backend the function runs eagerly behind the same interface. Pad inputs so that shapes recur.
 *
 * Gradients belong inside the captured function: its results are not connected to its inputs.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { LruCache } from '../../../../shared/base/lru-cache.js';
import type { Engine } from '../load-engine.js';
import { nativeBackendOf, type NativeBackend } from '../native-backend.js';
import { rewriteGraph } from '../rewrite/rewrite-graph.js';
import type { GraphShelf, KeptGraph } from './graph-shelf.js';
import {
  isRecording,
  recordGraph,
  filledForm,
  leavesOf,
  plainForm,
  signatureOf,
  withLeaves,
  type TensorStructure,
} from './record-graph.js';
import { loadGraph, savedModelOf } from './saved-model.js';

interface CaptureOptions {
  /** The name of the function in errors. */
  readonly name: string;
  /** True, the default, makes graphs cheaper, which may change low bits. */
  readonly rewrites?: boolean;
  /**
   * Where graphs of this function are kept. The function, its closure included, must be decided by what the
   * shelf is for.
   */
  readonly shelf?: GraphShelf | null;
  /** Graphs held at once; the least recently used is freed beyond it. The jobs of a run have some twenty shapes. */
  readonly graphCountMax?: number;
}

export interface Captured<In extends TensorStructure, Out extends TensorStructure> {
  /**
   * Runs natively in one call. Inside another captured function it becomes part of that graph. The
   * caller owns the results, which share no memory with the inputs; a surrounding `tf.tidy` takes them.
   */
  run(input: In): Out;
  /** Frees the native graphs; may be called again. Running afterwards is an error. */
  dispose(): void;
}

const GRAPH_COUNT_MAX = 64;

/** Nothing is recorded before the first call. */
export function capture<In extends TensorStructure, Out extends TensorStructure>(
  { tf }: Pick<Engine, 'tf'>,
  compute: (input: In) => Out,
  { name, rewrites = true, shelf = null, graphCountMax = GRAPH_COUNT_MAX }: CaptureOptions,
): Captured<In, Out> {
  const graphs = new LruCache<string, LoadedGraph>({ countMax: graphCountMax });
  let isDisposed = false;
  const recorded = (backend: NativeBackend, input: In): KeptGraph => {
    const { graph, output } = recordGraph(tf, backend, compute, input);
    return { ...savedModelOf(rewrites ? rewriteGraph(graph) : graph), output: plainForm(output) };
  };
  const graphFor = (backend: NativeBackend, input: In): LoadedGraph => {
    const signature = signatureOf(input);
    const known = graphs.get(signature);
    if (known !== undefined) return known;
    const found = shelf?.find(signature) ?? null;
    const kept = found ?? recorded(backend, input);
    if (found === null) shelf?.keep(signature, kept);
    const graph = { ...loadGraph(backend, kept), output: kept.output };
    for (const evicted of graphs.put(signature, graph)) evicted.dispose();
    return graph;
  };
  return {
    run: (input) => {
      if (isDisposed) throw new Error(`the captured function ${name} was disposed and cannot run`);
      const backend = nativeBackendOf(tf);
      if (backend === null) return ownedResults(tf, compute, input);
      if (isRecording(backend)) return compute(input);
      const graph = graphFor(backend, input);
      const results = graph.run(leavesOf(input).map(({ tensor }) => tensor));
      // The form is that of what `compute` returned, here or in a process with the same code.
      return filledForm(graph.output, results) as Out;
    },
    dispose: () => {
      isDisposed = true;
      for (const graph of graphs.clear()) graph.dispose();
    },
  };
}

type LoadedGraph = ReturnType<typeof loadGraph> & Pick<KeptGraph, 'output'>;

/** Copies of the results survive the scope, so that none of them is an input or a constant. */
function ownedResults<In extends TensorStructure, Out extends TensorStructure>(
  tf: typeof tfjs,
  compute: (input: In) => Out,
  input: In,
): Out {
  const outputs: Out[] = [];
  const copies = tf.tidy(() => {
    const output = compute(input);
    outputs.push(output);
    return leavesOf(output).map(({ tensor }) => tensor.clone());
  });
  const [output] = outputs;
  if (output === undefined) throw new Error('nothing was computed');
  return withLeaves(output, copies);
}
