/**
 * The profile of a captured graph. Every distinct operation (by input shapes, attributes and small
 * constant inputs) is timed alone, on the values it receives in one run of the graph.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { systemClock } from '../../../shared/base/clock.js';
import {
  nodesInOrder,
  sizeOf,
  typeOf,
  type Attribute,
  type Graph,
  type GraphNode,
} from '../../../worker/compute/engine/graph/graph.js';
import type { Engine } from '../../../worker/compute/engine/load-engine.js';
import {
  nativeBackendOf,
  type NativeAttribute,
  type NativeBackend,
} from '../../../worker/compute/engine/native-backend.js';
import { randomStream } from '../../../shared/base/random.js';
import { median } from '../../../shared/base/arrays.js';

interface ProfileLine {
  /** `MatMul [2048,256]x[256,128] transpose_a=true` */
  readonly operation: string;
  readonly op: string;
  readonly count: number;
  /** Time alone, minus the cost of calling a trivial operation. */
  readonly medianMs: number;
  readonly totalMs: number;
  readonly share: number;
  /** For matrix products; null otherwise. */
  readonly gflops: number | null;
}

interface GraphProfile {
  readonly lines: readonly ProfileLine[];
  /** Sum over all nodes of their individual times. */
  readonly totalMs: number;
  readonly nodeCount: number;
}

const TIME_PER_OPERATION_MS = 25;
const REPEAT_COUNT_MIN = 5;
const SMALL_CONSTANT_SIZE_MAX = 8;
const SOURCES = new Set(['Placeholder', 'Const']);

/** @param feeds the graph's inputs in order; a missing one is drawn at random (integers: zero). */
export function profileGraph(
  engine: Engine,
  graph: Graph,
  feeds: readonly tfjs.Tensor[],
): GraphProfile {
  const backend = nativeBackendOf(engine.tf);
  if (backend === null) throw new Error('only graphs of the native backend can be profiled');
  const values = new Map<GraphNode, readonly tfjs.Tensor[]>();
  const groups = new Map<string, { node: GraphNode; count: number }>();
  const nodes = nodesInOrder(graph);
  try {
    const inputsOf = (node: GraphNode): tfjs.Tensor[] =>
      node.inputs.map((input) => {
        const tensor = values.get(input.node)?.[input.output];
        if (tensor === undefined) throw new Error(`${node.op} comes before its input`);
        return tensor;
      });
    for (const node of nodes) {
      if (SOURCES.has(node.op)) {
        values.set(node, [sourceTensor(engine, graph, node, feeds)]);
        continue;
      }
      values.set(node, runNode(backend, node, inputsOf(node)));
      const name = operationName(node);
      const group = groups.get(name);
      if (group === undefined) groups.set(name, { node, count: 1 });
      else group.count += 1;
    }
    const callMs = callCostMs(engine);
    const timed = [...groups].map(([operation, { node, count }]) => {
      const inputs = inputsOf(node);
      const aloneMs = timeOf(() => engine.tf.dispose(runNode(backend, node, inputs)));
      const medianMs = Math.max(0, aloneMs - callMs);
      return { operation, node, count, medianMs, totalMs: count * medianMs };
    });
    const totalMs = timed.reduce((sum, line) => sum + line.totalMs, 0);
    const lines = timed
      .map(({ node, ...line }): ProfileLine => {
        const flops = productFlops(node);
        const gflops = flops === null ? null : flops / (line.medianMs * 1e6);
        return { ...line, op: node.op, share: line.totalMs / totalMs, gflops };
      })
      .sort((a, b) => b.totalMs - a.totalMs);
    return { lines, totalMs, nodeCount: nodes.length };
  } finally {
    const fed = new Set(feeds);
    engine.tf.dispose([...values.values()].flat().filter((tensor) => !fed.has(tensor)));
  }
}

/** Total milliseconds by kind of operation, the largest first. */
export function profileByOp({ lines, totalMs }: GraphProfile): {
  readonly op: string;
  readonly count: number;
  readonly totalMs: number;
  readonly share: number;
}[] {
  const byOp = new Map<string, { count: number; totalMs: number }>();
  for (const line of lines) {
    const entry = byOp.get(line.op) ?? { count: 0, totalMs: 0 };
    entry.count += line.count;
    entry.totalMs += line.totalMs;
    byOp.set(line.op, entry);
  }
  return [...byOp]
    .map(([op, entry]) => ({ op, ...entry, share: entry.totalMs / totalMs }))
    .sort((a, b) => b.totalMs - a.totalMs);
}

/** One line of text per distinct operation. */
export function profileText(profile: GraphProfile): string {
  const head = `${profile.nodeCount} nodes, ${profile.totalMs.toFixed(2)} ms as the sum of each alone`;
  const lines = profile.lines.map(({ operation, count, medianMs, totalMs, share, gflops }) =>
    [
      `${(100 * share).toFixed(1).padStart(5)} %`,
      `${totalMs.toFixed(3).padStart(9)} ms`,
      `${String(count).padStart(4)} x ${medianMs.toFixed(4).padStart(8)} ms`,
      (gflops === null ? '' : `${gflops.toFixed(0)} GFLOPS`).padStart(11),
      operation,
    ].join('  '),
  );
  return [head, ...lines].join('\n');
}

function operationName(node: GraphNode): string {
  const inputs = node.inputs.map((input) => {
    const { shape, dtype } = typeOf(input);
    const { constant } = input.node;
    if (constant !== null && constant.length <= SMALL_CONSTANT_SIZE_MAX)
      return `{${[...constant].map((value) => Number(value.toPrecision(6))).join(',')}}`;
    return `[${shape.join(',')}]${dtype === 'float32' ? '' : dtype}`;
  });
  const attributes = Object.entries(node.attributes)
    .filter(([, { kind, value }]) => kind !== 'type' && value !== false)
    .map(([name, { value }]) => `${name}=${JSON.stringify(value)}`)
    .sort();
  return [node.op, inputs.join('x'), ...attributes].join(' ');
}

/** Floating-point operations of a matrix product, null for other operations. */
function productFlops(node: GraphNode): number | null {
  const [left] = node.inputs;
  if (left === undefined) return null;
  const transposed = node.attributes['transpose_a'] ?? node.attributes['adj_x'];
  if (!/MatMul/.test(node.op)) return null;
  const { shape } = typeOf(left);
  const inner = shape[shape.length - (transposed?.value === true ? 2 : 1)] ?? 1;
  return 2 * inner * sizeOf(typeOf({ node, output: 0 }).shape);
}

function sourceTensor(
  { tf }: Engine,
  graph: Graph,
  node: GraphNode,
  feeds: readonly tfjs.Tensor[],
): tfjs.Tensor {
  const { shape, dtype } = typeOf({ node, output: 0 });
  const extents = [...shape];
  if (node.constant !== null) {
    const size = sizeOf(shape);
    // A splat stores its single value once.
    const all =
      node.constant.length === size
        ? node.constant
        : new Float32Array(size).fill(node.constant[0] ?? 0);
    return tf.tensor(all, extents, dtype);
  }
  const fed = feeds[graph.inputs.indexOf(node)];
  if (fed !== undefined) return fed;
  if (dtype !== 'float32') return tf.zeros(extents, dtype);
  const stream = randomStream(1, 'profile');
  return tf.tensor(
    Float32Array.from({ length: sizeOf(shape) }, () => stream.normal()),
    extents,
  );
}

/** Runs one node as it is in the graph; the caller owns the results. */
function runNode(
  backend: NativeBackend,
  node: GraphNode,
  inputs: readonly tfjs.Tensor[],
): tfjs.Tensor[] {
  const ids = backend.getInputTensorIds([...inputs]);
  const attributes = Object.entries(node.attributes).map(([name, attribute]) =>
    nativeAttribute(backend, name, attribute),
  );
  return backend.binding
    .executeOp(node.op, attributes, ids, node.outputs.length)
    .map((output) => backend.createOutputTensor(output));
}

function nativeAttribute(
  backend: NativeBackend,
  name: string,
  { kind, value }: Attribute,
): NativeAttribute {
  const { binding } = backend;
  switch (kind) {
    case 'type':
      return { name, type: binding.TF_ATTR_TYPE, value: backend.getDTypeInteger(value) };
    case 'bool':
    case 'bools':
      return { name, type: binding.TF_ATTR_BOOL, value };
    case 'int':
    case 'ints':
      return { name, type: binding.TF_ATTR_INT, value };
    case 'float':
    case 'floats':
      return { name, type: binding.TF_ATTR_FLOAT, value };
    case 'string':
    case 'strings':
      return { name, type: binding.TF_ATTR_STRING, value };
    case 'shape':
      return { name, type: binding.TF_ATTR_SHAPE, value };
  }
}

function timeOf(run: () => void): number {
  run();
  const times: number[] = [];
  const startMs = systemClock.monotonicMs();
  for (;;) {
    const beforeMs = systemClock.monotonicMs();
    run();
    const afterMs = systemClock.monotonicMs();
    times.push(afterMs - beforeMs);
    if (times.length >= REPEAT_COUNT_MIN && afterMs - startMs > TIME_PER_OPERATION_MS) break;
  }
  return median(times);
}

/** The overhead of one call. */
function callCostMs({ tf }: Engine): number {
  const one = tf.scalar(1);
  const cost = timeOf(() => tf.dispose(tf.add(one, one)));
  tf.dispose(one);
  return cost;
}
