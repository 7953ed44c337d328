/**
 * Random programs on small integers: sums and products of these are exact in single precision, so a
 * rewritten graph must give exactly the same numbers in any order of evaluation.
 */

import type * as tfjs from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import { compareRewrite, type TensorsByName } from '../../fixtures/compute/rewritten-graphs.js';

/** Integers up to this bound, and their sums, are exact. */
const EXACT_MAX = 2 ** 22;
const INPUT_MAX = 2;

/** A tensor and a bound on its magnitude. */
interface Value {
  readonly tensor: tfjs.Tensor;
  readonly bound: number;
}

type Operation = (tf: typeof tfjs, one: Value, other: Value, choice: number) => Value | null;

function elementwise(
  of: (tf: typeof tfjs, one: tfjs.Tensor, other: tfjs.Tensor) => tfjs.Tensor,
  boundOf: (one: number, other: number) => number,
): Operation {
  return (tf, one, other) => {
    const [a, b] = [one.tensor.shape, other.tensor.shape];
    const fits =
      a.length === b.length && a.every((extent, axis) => extent === b[axis] || b[axis] === 1);
    if (!fits) return null;
    return { tensor: of(tf, one.tensor, other.tensor), bound: boundOf(one.bound, other.bound) };
  };
}

function matrices(leftTransposed: boolean, rightTransposed: boolean): Operation {
  return (tf, one, other) => {
    const [a, b] = [one.tensor.shape, other.tensor.shape];
    const inner = a.at(leftTransposed ? -2 : -1) ?? 0;
    const fits = a.length === 3 && b.length === 3 && a[0] === b[0];
    if (!fits || b.at(rightTransposed ? -1 : -2) !== inner) return null;
    const tensor = tf.matMul(one.tensor, other.tensor, leftTransposed, rightTransposed);
    return { tensor, bound: one.bound * other.bound * inner };
  };
}

const OPERATIONS: readonly Operation[] = [
  elementwise(
    (tf, one, other) => tf.add(one, other),
    (one, other) => one + other,
  ),
  elementwise(
    (tf, one, other) => tf.sub(one, other),
    (one, other) => one + other,
  ),
  elementwise(
    (tf, one, other) => tf.mul(one, other),
    (one, other) => one * other,
  ),
  elementwise(
    (tf, one, other) => tf.maximum(one, other),
    (one, other) => Math.max(one, other),
  ),
  elementwise(
    (tf, one, other) => tf.minimum(one, other),
    (one, other) => Math.max(one, other),
  ),
  (tf, one, _, choice) => {
    const [zeros, ones] = [tf.zeros(one.tensor.shape), tf.ones(one.tensor.shape)];
    return {
      tensor: choice % 2 === 0 ? tf.maximum(zeros, ones) : tf.minimum(zeros, ones),
      bound: 1,
    };
  },
  (tf, one) => ({ tensor: tf.neg(one.tensor), bound: one.bound }),
  (tf, one) => ({ tensor: tf.relu(one.tensor), bound: one.bound }),
  (tf, one) => ({ tensor: tf.mul(one.tensor, tf.onesLike(one.tensor)), bound: one.bound }),
  (tf, one) => ({ tensor: tf.add(one.tensor, tf.zerosLike(one.tensor)), bound: one.bound }),
  (tf, one, _, choice) => {
    const axis = choice % one.tensor.rank;
    const extent = one.tensor.shape[axis] ?? 1;
    return { tensor: tf.sum(one.tensor, axis, true), bound: one.bound * extent };
  },
  (tf, one, other) => {
    const { shape } = one.tensor;
    const repeats = other.tensor.shape.map((extent, axis) => (shape[axis] === 1 ? extent : 1));
    return shape.length === repeats.length
      ? { tensor: tf.tile(one.tensor, repeats), bound: one.bound }
      : null;
  },
  (tf, one) => {
    const [taskCount = 1, rows = 1, columns = 1] = one.tensor.shape;
    const flat = tf.reshape(one.tensor, [taskCount * rows, columns]);
    return { tensor: tf.reshape(tf.relu(flat), [taskCount, rows, columns]), bound: one.bound };
  },
  matrices(false, false),
  matrices(true, false),
  matrices(false, true),
];

interface Choice {
  readonly operation: number;
  readonly one: number;
  readonly other: number;
}

interface Program {
  readonly taskCount: number;
  readonly extents: readonly number[];
  readonly choices: readonly Choice[];
  readonly seed: number;
}

const index = fc.nat(1_000);
const programs: fc.Arbitrary<Program> = fc.record({
  taskCount: fc.integer({ min: 1, max: 4 }),
  extents: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 2, maxLength: 3 }),
  choices: fc.array(fc.record({ operation: index, one: index, other: index }), {
    minLength: 4,
    maxLength: 30,
  }),
  seed: fc.nat(1_000_000),
});

/** One matrix per task and one for all tasks, for each pair of dimensions. */
function inputsOf({ tf }: Engine, { taskCount, extents, seed }: Program): TensorsByName {
  const random = randomStream(seed, 'rewrite-random-programs');
  const inputs: Record<string, tfjs.Tensor> = {};
  for (const rows of extents)
    for (const columns of extents)
      for (const tasks of [taskCount, 1]) {
        const size = tasks * rows * columns;
        const values = Array.from(
          { length: size },
          () => Math.floor(random.uniform() * (2 * INPUT_MAX + 1)) - INPUT_MAX,
        );
        inputs[`${tasks} ${rows} ${columns}`] = tf.tensor(values, [tasks, rows, columns]);
      }
  return inputs;
}

function run(tf: typeof tfjs, { choices }: Program, inputs: TensorsByName): tfjs.Tensor[] {
  const values: Value[] = Object.entries(inputs)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([, tensor]) => ({ tensor, bound: INPUT_MAX }));
  const inputCount = values.length;
  const at = (place: number): Value => {
    const value = values[place % values.length];
    if (value === undefined) throw new Error('a program has inputs');
    return value;
  };
  for (const { operation, one, other } of choices) {
    const act = OPERATIONS[operation % OPERATIONS.length];
    // Operations that do not fit, or would not be exact, are left out.
    const made = act?.(tf, at(one), at(other), other) ?? null;
    if (made !== null && made.bound <= EXACT_MAX) values.push(made);
  }
  const made = values.slice(inputCount).map(({ tensor }) => tensor);
  const totals = made.map((tensor) => tf.sum(tensor, 0));
  return [...made.slice(-3), ...totals.slice(-3)];
}

interface AdaptedLayer {
  readonly taskCount: number;
  readonly rowCount: number;
  readonly width: number;
  readonly outWidth: number;
  readonly steps: readonly { readonly isPlus: boolean; readonly isGiven: boolean }[];
  readonly seed: number;
}

const extent = fc.integer({ min: 1, max: 16 });
const adaptedLayers: fc.Arbitrary<AdaptedLayer> = fc.record({
  taskCount: fc.integer({ min: 1, max: 3 }),
  rowCount: fc.integer({ min: 1, max: 5 }),
  width: extent,
  outWidth: extent,
  steps: fc.array(fc.record({ isPlus: fc.boolean(), isGiven: fc.boolean() }), {
    minLength: 1,
    maxLength: 4,
  }),
  seed: fc.nat(1_000_000),
});

function layerInputs({ tf }: Engine, layer: AdaptedLayer): TensorsByName {
  const { taskCount, rowCount, width, outWidth, seed } = layer;
  const random = randomStream(seed, 'rewrite-random-layers');
  const whole = (...shape: number[]): tfjs.Tensor => {
    const size = shape.reduce((product, one) => product * one, 1);
    const values = Array.from({ length: size }, () => Math.floor(random.uniform() * 3) - 1);
    return tf.tensor(values, shape);
  };
  return {
    support: whole(taskCount, rowCount, width),
    query: whole(taskCount, rowCount, width),
    theta: whole(width, outWidth),
    given: whole(taskCount, rowCount, outWidth),
  };
}

/** Weights adapted step by step and read in every way that first and second order read them. */
function adapt(tf: typeof tfjs, layer: AdaptedLayer, inputs: TensorsByName): tfjs.Tensor[] {
  const the = (name: string): tfjs.Tensor => {
    const tensor = inputs[name];
    if (tensor === undefined) throw new Error(`no input ${name}`);
    return tensor;
  };
  const [support, query, given] = [the('support'), the('query'), the('given')];
  let phi = tf.tile(tf.expandDims(the('theta'), 0), [layer.taskCount, 1, 1]);
  let delta = given;
  for (const { isPlus, isGiven } of layer.steps) {
    delta = isGiven ? given : tf.minimum(tf.relu(tf.matMul(support, phi)), 1);
    const step = tf.matMul(support, delta, true);
    phi = isPlus ? tf.add(phi, step) : tf.sub(phi, step);
  }
  const adjoint = tf.sub(tf.matMul(query, given, true), tf.matMul(support, delta, true));
  return [
    tf.matMul(query, phi),
    tf.matMul(given, phi, false, true),
    tf.matMul(support, adjoint),
    tf.sum(adjoint, 0),
  ];
}

const engine = await loadEngine('tensorflow', () => undefined);

describe('a rewritten graph', () => {
  test('gives the same results as recorded', () => {
    fc.assert(
      fc.property(programs, (program) => {
        const { tf } = engine;
        tf.tidy(() => {
          const input = inputsOf(engine, program);
          const compared = compareRewrite(engine, (named) => run(tf, program, named), input);
          expect(compared.relativeError).toBe(0);
        });
      }),
      { numRuns: 30 },
    );
  });

  test('gives the same adapted layers as recorded', () => {
    fc.assert(
      fc.property(adaptedLayers, (layer) => {
        const { tf } = engine;
        tf.tidy(() => {
          const input = layerInputs(engine, layer);
          const compared = compareRewrite(engine, (named) => adapt(tf, layer, named), input);
          expect(compared.relativeError).toBe(0);
        });
      }),
      { numRuns: 30 },
    );
  });
});
