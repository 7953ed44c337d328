/**
 * A small fixed computation whose bits tell machines apart: products of sizes that reach the vectorised
 * kernels and their blocking, functions of odd-length arrays with a remainder to every vector width,
 * sums, rows by index, and a few training steps. It runs as a captured graph, as jobs do.
 */

import { createHash } from 'node:crypto';
import type * as tfjs from '@tensorflow/tfjs';
import { capture } from '../engine/capture/capture.js';
import type { GraphShelf, GraphShelves } from '../engine/capture/graph-shelf.js';
import { withoutTensorsLeft, type Engine } from '../engine/load-engine.js';

type Tensors = readonly tfjs.Tensor[];

interface ProbePart {
  readonly name: string;
  /** Shapes of the inputs, whose values are fixed. */
  readonly shapes: readonly (readonly number[])[];
  readonly compute: (engine: Engine, inputs: Tensors) => Tensors;
}

const DIGEST_LENGTH = 16;

/**
 * The beginning of a digest of all results. A part that the device cannot compute counts with its name
 * alone.
 */
export function numericalProbe(engine: Engine, shelves: GraphShelves | null = null): string {
  const hash = createHash('sha256');
  withoutTensorsLeft(engine, () => {
    // A graph costs more than what it computes here, so one graph has all parts.
    const shelf = shelves?.('the numerical probe') ?? null;
    const results =
      resultsOf(engine, PARTS, shelf) ?? PARTS.map((part) => resultsOf(engine, [part])?.[0]);
    for (const [index, { name }] of PARTS.entries()) {
      hash.update(name);
      for (const result of results[index] ?? []) hash.update(bytesOf(result));
    }
  });
  return hash.digest('hex').slice(0, DIGEST_LENGTH);
}

/** Returns the results of each part; null if the device cannot compute one of them. */
function resultsOf(
  engine: Engine,
  parts: readonly ProbePart[],
  shelf: GraphShelf | null = null,
): readonly Tensors[] | null {
  const inputs = parts.map(({ shapes }) =>
    shapes.map((shape, index) => fixed(engine, shape, index)),
  );
  const compute = (given: readonly Tensors[]): readonly Tensors[] =>
    parts.map((part, index) => part.compute(engine, given[index] ?? []));
  try {
    const name = 'the numerical probe';
    const captured = capture(engine, compute, inputs, { name, shelf });
    try {
      return captured.run(inputs);
    } finally {
      captured.dispose();
    }
  } catch {
    // A device without a deterministic kernel for an operation refuses it here as it does in a job.
    return null;
  }
}

function bytesOf(tensor: tfjs.Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.dataSync();
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Values in [-1, 1) with 24 random-looking bits, so that every product and sum is rounded. */
function fixed({ tf }: Engine, shape: readonly number[], seed: number): tfjs.Tensor {
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  let state = 0x9e3779b9 + seed;
  for (let index = 0; index < values.length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[index] = (state >>> 8) / 2 ** 23 - 1;
  }
  return tf.tensor(values, [...shape]);
}

function at(tensors: Tensors, index: number): tfjs.Tensor {
  const tensor = tensors[index];
  if (tensor === undefined) throw new Error(`the probe has no input ${index}`);
  return tensor;
}

/** Odd in every sense: no multiple of a vector width, and longer than a block. */
const ODD_LENGTH = 4_099;

const PARTS: readonly ProbePart[] = [
  {
    name: 'products',
    shapes: [
      [33, 300],
      [300, 129],
      [ODD_LENGTH, 17],
      [ODD_LENGTH, 24],
      [9, 2_048],
      [2_048, 48],
      [5, 33, 64],
      [5, 64, 31],
      [257, 64],
      [64, 1],
    ],
    compute: ({ tf }, inputs) => [
      tf.matMul(at(inputs, 0), at(inputs, 1)),
      tf.matMul(at(inputs, 2), at(inputs, 3), true, false),
      tf.matMul(at(inputs, 4), at(inputs, 5)),
      tf.matMul(at(inputs, 1), at(inputs, 0), true, true),
      tf.matMul(at(inputs, 6), at(inputs, 7)),
      tf.matMul(at(inputs, 6), at(inputs, 6), false, true),
      tf.matMul(at(inputs, 8), at(inputs, 9)),
    ],
  },
  {
    name: 'functions',
    shapes: [[ODD_LENGTH], [37, 101]],
    compute: ({ tf }, inputs) => {
      const x = tf.mul(at(inputs, 0), 8);
      const positive = tf.add(tf.abs(x), 0.001);
      // TensorFlow's optimizer makes products with approximated reciprocals of these.
      const byRoot = tf.div(x, tf.sqrt(tf.add(positive, 1)));
      const byConstants = tf.div(x, tf.range(1, ODD_LENGTH + 1));
      return [
        ...[tf.exp(x), tf.sigmoid(x), tf.tanh(x), tf.softplus(x)],
        ...[tf.log(positive), tf.log1p(positive), tf.sqrt(positive), tf.rsqrt(positive)],
        ...[tf.div(x, positive), byRoot, byConstants, tf.reciprocal(positive)],
        ...[tf.softmax(at(inputs, 1)), tf.logSumExp(at(inputs, 1), 1)],
      ];
    },
  },
  {
    name: 'sums',
    shapes: [[ODD_LENGTH], [ODD_LENGTH, 13]],
    compute: ({ tf, kernels }, inputs) => {
      const rows = at(inputs, 1) as tfjs.Tensor2D;
      const places = Int32Array.from({ length: ODD_LENGTH }, (_, row) => (row * 7) % 101);
      const index = tf.tensor1d(places, 'int32');
      return [
        ...[tf.sum(at(inputs, 0)), tf.mean(rows, 0), tf.sum(rows, 1)],
        ...[kernels.gatherRows(rows, index), kernels.sumSegments(rows, index, 101)],
      ];
    },
  },
  { name: 'training', shapes: [[65, 40], [65], [40, 33], [33, 1]], compute: trainedByAdam },
];

const STEP_COUNT = 2;

/** Steps of Adam on a small network, so that the bits of gradients and updates count as well. */
function trainedByAdam({ tf, kernels }: Engine, inputs: Tensors): Tensors {
  const rows = at(inputs, 0) as tfjs.Tensor2D;
  const labels = tf.step(at(inputs, 1));
  const lossOf = (hidden: tfjs.Tensor, output: tfjs.Tensor): tfjs.Scalar => {
    const logits = tf.matMul(kernels.relu(tf.matMul(rows, hidden)), output).squeeze([1]);
    return tf.mean<tfjs.Scalar>(tf.sub(tf.softplus(logits), tf.mul(labels, logits)));
  };
  let weights = [at(inputs, 2), at(inputs, 3)];
  let moments = weights.map((weight) => ({
    first: tf.zerosLike(weight),
    second: tf.zerosLike(weight),
  }));
  for (let step = 0; step < STEP_COUNT; step += 1) {
    const gradients = tf.grads(lossOf)(weights);
    moments = moments.map(({ first, second }, index) => {
      const gradient = at(gradients, index);
      return {
        first: tf.add(tf.mul(first, 0.9), tf.mul(gradient, 0.1)),
        second: tf.add(tf.mul(second, 0.999), tf.mul(tf.square(gradient), 0.001)),
      };
    });
    weights = weights.map((weight, index) => {
      const { first, second } = moments[index] ?? { first: weight, second: weight };
      return tf.sub(weight, tf.div(tf.mul(first, 0.01), tf.add(tf.sqrt(second), 1e-8)));
    });
  }
  return weights;
}
