/**
 * Compiles a graph to one native call from inputs to results. The number of threads is fixed when the
 * native library loads, by TF_NUM_INTRAOP_THREADS (within an operation), TF_NUM_INTEROP_THREADS
 * (parallel operations) and OMP_NUM_THREADS (oneDNN). All sessions have the options of
 * `../native/session-options.cc`; a single graph has none of its own.
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as tfjs from '@tensorflow/tfjs';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { NativeBackend } from '../native-backend.js';
import { typeOf, type Graph, type ValueType } from '../graph/graph.js';
import {
  inputNamesOf,
  resultNamesOf,
  savedModelOf,
  TAG,
  type SignatureNames,
} from './saved-model.js';

interface CompiledGraph {
  /** @param inputs in the order and with the shapes of the graph's inputs. The caller owns the results. */
  run(inputs: readonly tfjs.Tensor[]): tfjs.Tensor[];
  /** Frees the native session; may be called again. */
  dispose(): void;
}

/** A graph as a SavedModel, with what its caller must know. */
interface WrittenGraph {
  readonly bytes: Uint8Array;
  readonly nodeCount: number;
  /** In the order of the graph's inputs; the paths are their names in errors. */
  readonly inputs: readonly { readonly path: string; readonly type: ValueType }[];
  readonly resultCount: number;
}

export function writtenGraph(graph: Graph, inputPaths: readonly string[] = []): WrittenGraph {
  return {
    ...savedModelOf(graph, null),
    inputs: graph.inputs.map((node, index) => ({
      path: inputPaths[index] ?? String(index),
      type: typeOf({ node, output: 0 }),
    })),
    resultCount: graph.results.length,
  };
}

export function compileGraph(
  backend: NativeBackend,
  { bytes, inputs: expected, resultCount }: WrittenGraph,
): CompiledGraph {
  const fed = inputNamesOf(expected.length).join(',');
  const fetched = resultNamesOf(resultCount).join(',');
  let model: number | null = loaded(backend, bytes);
  return {
    run: (inputs) => {
      if (model === null) throw new Error('this graph was disposed');
      if (inputs.length !== expected.length)
        throw new TypeError(`${inputs.length} inputs for a graph with ${expected.length}`);
      for (const [index, { path, type }] of expected.entries())
        checkInput(path, inputs[index], type);
      if (resultCount === 0) return [];
      const ids = backend.getInputTensorIds([...inputs]);
      return backend.binding
        .runSavedModel(model, ids, fed, fetched)
        .map((result) => backend.createOutputTensor(result));
    },
    dispose: () => {
      if (model === null) return;
      backend.binding.deleteSavedModel(model);
      model = null;
    },
  };
}

function checkInput(path: string, found: tfjs.Tensor | undefined, type: ValueType): void {
  if (
    found?.dtype === type.dtype &&
    found.shape.length === type.shape.length &&
    found.shape.every((extent, axis) => extent === type.shape[axis])
  )
    return;
  const text = found === undefined ? 'missing' : `${found.dtype} [${found.shape.join(', ')}]`;
  throw new TypeError(
    `input ${path} is ${text}, captured as ${type.dtype} [${type.shape.join(', ')}]`,
  );
}

function loaded({ binding }: NativeBackend, bytes: Uint8Array): number {
  const folder = mkdtempSync(join(tmpdir(), `qianmo-graph-${process.pid}-`));
  try {
    writeFileSync(join(folder, 'saved_model.pb'), bytes);
    return binding.loadSavedModel(folder, TAG);
  } catch (cause) {
    throw new QianmoError({
      kind: 'environment',
      what: 'TensorFlow does not load a captured graph',
      ...(cause instanceof Error ? { found: cause.message } : {}),
      cure: `check that ${tmpdir()} is writable; if it is, report this as a bug of the capture`,
      cause,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes a standard SavedModel with the signature `serving_default`, for any TensorFlow. */
export function saveGraph(graph: Graph, names: SignatureNames, folder: string): void {
  // TensorFlow looks for variables beside the graph; there are none.
  mkdirSync(join(folder, 'variables'), { recursive: true });
  writeFileSync(join(folder, 'saved_model.pb'), savedModelOf(graph, names).bytes);
}
