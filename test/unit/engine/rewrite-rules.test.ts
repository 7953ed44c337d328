/** Each rewrite: its result on a small graph, and that the values are unchanged. */

import type * as tfjs from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { rewriteGraph } from '../../../worker/compute/engine/rewrite/rewrite-graph.js';
import {
  compareRewrite,
  operationCounts,
  shapesMadeBy,
  type ComparedRewrite,
  type TensorsByName,
} from '../../fixtures/compute/rewritten-graphs.js';

const TASKS = 3;

const engine = await loadEngine('tensorflow', () => undefined);

function random(shape: number[], seed = shape.length): tfjs.Tensor {
  return engine.tf.randomNormal(shape, 0, 1, 'float32', seed);
}

function rewritten(
  inputs: Readonly<Record<string, number[]>>,
  compute: (tf: typeof tfjs, input: TensorsByName) => tfjs.Tensor | tfjs.Tensor[],
): ComparedRewrite & { readonly counts: Record<string, number> } {
  const input: TensorsByName = Object.fromEntries(
    Object.entries(inputs).map(([name, shape], place) => [name, random(shape, place + 1)]),
  );
  try {
    const result = compareRewrite(engine, (named) => compute(engine.tf, named), input);
    return { ...result, counts: operationCounts(result.rewritten) };
  } finally {
    engine.tf.dispose(Object.values(input));
  }
}

/** The tensor with this name. */
function the(input: TensorsByName, name: string): tfjs.Tensor {
  const tensor = input[name];
  if (tensor === undefined) throw new Error(`no input ${name}`);
  return tensor;
}

describe('renaming and repeating', () => {
  it('drops casts to the same type, joins reshapes and drops those that change nothing', () => {
    const { counts, relativeError } = rewritten({ x: [4, 6] }, (tf, input) => {
      const there = tf.reshape(tf.cast(the(input, 'x'), 'float32'), [24]);
      return tf.relu(tf.expandDims(tf.reshape(tf.reshape(there, [2, 12]), [4, 6]), 0));
    });
    expect(counts).toEqual({ Relu: 1, Reshape: 1 });
    expect(relativeError).toBe(0);
  });

  it('turns a tile into a broadcast in the operation that reads it', () => {
    const { counts, relativeError } = rewritten({ x: [3, 5, 2], y: [5, 2] }, (tf, input) =>
      tf.add(the(input, 'x'), tf.tile(tf.expandDims(the(input, 'y'), 0), [3, 1, 1])),
    );
    expect(counts).toEqual({ Add: 1, Reshape: 1 });
    expect(relativeError).toBe(0);
  });

  it('divides instead of taking reciprocals, which processors approximate in their own ways', () => {
    const { counts, relativeError } = rewritten({ x: [4, 6] }, (tf, input) => {
      const positive = tf.add(tf.square(the(input, 'x')), 1);
      return [tf.reciprocal(positive), tf.rsqrt(positive)];
    });
    expect(counts).toEqual({ Square: 1, Add: 1, RealDiv: 2, Sqrt: 1 });
    expect(relativeError).toBeLessThan(1e-6);
  });

  it('applies an operation on equal rows once, and repeats afterwards', () => {
    const { counts, relativeError } = rewritten({ x: [1, 4] }, (tf, input) =>
      tf.sigmoid(tf.mul(tf.tile(the(input, 'x'), [8, 1]), 2)),
    );
    expect(counts).toEqual({ BroadcastTo: 1, Mul: 1, Sigmoid: 1 });
    expect(relativeError).toBeLessThan(1e-6);
  });
});

describe('arithmetic', () => {
  it('drops neutral elements and computes constants', () => {
    const { counts, relativeError } = rewritten({ x: [2, 3] }, (tf, input) => {
      const one = tf.div(tf.scalar(4), tf.scalar(4));
      const zeros = tf.mul(tf.zeros([2, 3]), 3);
      return tf.sub(tf.add(tf.mul(the(input, 'x'), one), zeros), tf.neg(tf.ones([2, 3])));
    });
    expect(counts).toEqual({ Sub: 1 });
    expect(relativeError).toBe(0);
  });

  it('makes a difference from zero a sign', () => {
    const { counts, relativeError } = rewritten({ x: [2, 3] }, (tf, input) =>
      tf.sub(tf.zeros([2, 3]), the(input, 'x')),
    );
    expect(counts).toEqual({ Neg: 1 });
    expect(relativeError).toBe(0);
  });

  it('moves signs through products, sums and reshapes into a difference', () => {
    const { counts, relativeError } = rewritten(
      { a: [5, 2, 3], b: [5, 3, 4], c: [10, 4] },
      (tf, input) => {
        const product = tf.matMul(tf.neg(the(input, 'a')), the(input, 'b'));
        return tf.add(the(input, 'c'), tf.reshape(product, [10, 4]));
      },
    );
    expect(counts).toEqual({ BatchMatMulV2: 1, Reshape: 1, Sub: 1 });
    expect(relativeError).toBe(0);
  });
});

describe('sums', () => {
  it('replaces the sum of a repeated value by a product', () => {
    const { counts, relativeError } = rewritten({ x: [1, 4] }, (tf, input) =>
      tf.sum(tf.tile(the(input, 'x'), [16, 1]), 0),
    );
    expect(counts).toEqual({ Mul: 1, Reshape: 1 });
    expect(relativeError).toBeLessThan(1e-6);
  });

  it('replaces the sum of the products of all tasks by one product of all rows', () => {
    const { rewritten: graph, relativeError } = rewritten(
      { x: [5, 7, 4], y: [5, 7, 3] },
      (tf, input) => tf.sum(tf.matMul(the(input, 'x'), the(input, 'y'), true), 0),
    );
    expect(shapesMadeBy(graph, 'MatMul')).toEqual(['4x3']);
    expect(operationCounts(graph)).toEqual({ MatMul: 1, Reshape: 2 });
    expect(relativeError).toBeLessThan(1e-6);
  });
});

describe('products', () => {
  it('multiplies a shared matrix with the rows of all tasks at once', () => {
    const { rewritten: graph, relativeError } = rewritten(
      { x: [5, 7, 4], weights: [4, 3] },
      (tf, input) =>
        tf.matMul(the(input, 'x'), tf.tile(tf.expandDims(the(input, 'weights'), 0), [5, 1, 1])),
    );
    expect(shapesMadeBy(graph, 'MatMul')).toEqual(['35x3']);
    expect(relativeError).toBeLessThan(1e-6);
  });

  /** The output of a layer on query rows after one step on support rows. */
  function adaptedLayer(rows: number, wide: number, out: number): ReturnType<typeof rewritten> {
    const inputs = {
      support: [TASKS, rows, wide],
      query: [TASKS, rows, wide],
      delta: [TASKS, rows, out],
      theta: [wide, out],
    };
    return rewritten(inputs, (tf, input) => {
      const step = tf.matMul(the(input, 'support'), the(input, 'delta'), true);
      const initial = tf.tile(tf.expandDims(the(input, 'theta'), 0), [TASKS, 1, 1]);
      return tf.matMul(the(input, 'query'), tf.sub(initial, step));
    });
  }

  it('does not materialise the adapted weights of a wide layer with few rows', () => {
    const { rewritten: graph, relativeError } = adaptedLayer(4, 64, 32);
    expect(shapesMadeBy(graph, 'MatMul')).toEqual(['12x32']);
    expect(shapesMadeBy(graph, 'BatchMatMulV2')).toEqual(['3x4x32', '3x4x4']);
    expect(relativeError).toBeLessThan(1e-6);
  });

  it('reads X Y′ as the transpose of an existing Y X′', () => {
    const { rewritten: graph, relativeError } = rewritten(
      { x: [3, 4, 32], y: [3, 4, 32], u: [3, 4, 8], v: [3, 4, 8] },
      (tf, input) => {
        const gram = (one: string, other: string): tfjs.Tensor =>
          tf.matMul(the(input, one), the(input, other), false, true);
        const there = tf.matMul(gram('x', 'y'), the(input, 'u'));
        return [there, tf.matMul(gram('y', 'x'), the(input, 'v'))];
      },
    );
    expect(shapesMadeBy(graph, 'BatchMatMulV2')).toEqual(['3x4x4', '3x4x8', '3x4x8']);
    expect(relativeError).toBeLessThan(1e-6);
  });

  it('factors out a common factor of a sum', () => {
    const { counts, relativeError } = rewritten(
      { a: [3, 4, 8], g: [3, 4, 4], x: [3, 4, 8], y: [3, 4, 8] },
      (tf, input) => {
        const g = the(input, 'g');
        const first = tf.sub(the(input, 'a'), tf.matMul(g, the(input, 'x')));
        return tf.sub(first, tf.matMul(g, the(input, 'y')));
      },
    );
    expect(counts).toEqual({ Add: 1, BatchMatMulV2: 1, Sub: 1 });
    expect(relativeError).toBeLessThan(1e-6);
  });

  it('gives a product its bias in the form that TensorFlow fuses', () => {
    const { counts, relativeError } = rewritten(
      { x: [5, 7, 4], weights: [4, 3], bias: [3] },
      (tf, input) => {
        const rows = tf.reshape<tfjs.Rank.R2>(the(input, 'x'), [35, 4]);
        const product = tf.matMul(rows, the(input, 'weights'));
        return tf.relu(tf.add(tf.reshape(product, [5, 7, 3]), the(input, 'bias')));
      },
    );
    expect(counts).toEqual({ BiasAdd: 1, MatMul: 1, Relu: 1, Reshape: 2 });
    expect(relativeError).toBe(0);
  });
});

describe('finishing', () => {
  it('steps a bias together with its weights', () => {
    const { counts, relativeError } = rewritten(
      { p: [3, 4, 8], g: [3, 4, 5], delta: [3, 5, 8], bias: [8] },
      (tf, input) => {
        const delta = the(input, 'delta');
        const output = tf.sub(the(input, 'p'), tf.matMul(the(input, 'g'), delta));
        const initial = tf.tile(tf.reshape(the(input, 'bias'), [1, 1, 8]), [3, 1, 1]);
        return tf.add(output, tf.sub(initial, tf.sum(delta, 1, true)));
      },
    );
    expect(counts).toEqual({ Add: 2, BatchMatMulV2: 1, Reshape: 1, Sub: 1 });
    expect(relativeError).toBeLessThan(1e-6);
  });

  it('sums many rows by a product with ones', () => {
    const { counts, relativeError } = rewritten({ x: [40, 30, 64] }, (tf, input) =>
      tf.sum(tf.sum(the(input, 'x'), 1), 0),
    );
    expect(counts).toEqual({ MatMul: 1, Reshape: 2 });
    expect(relativeError).toBeLessThan(1e-6);
  });
});

it('rewriting terminates, also on its own output', () => {
  engine.tf.tidy(() => {
    const input = {
      s: random([3, 8, 16], 1),
      delta: random([3, 8, 12], 2),
      theta: random([16, 12], 3),
    };
    const { rewritten: once } = compareRewrite(
      engine,
      ({ s, delta, theta }) => {
        const { tf } = engine;
        let phi = tf.tile(tf.expandDims(theta as tfjs.Tensor, 0), [3, 1, 1]);
        let out = delta as tfjs.Tensor;
        for (let step = 0; step < 4; step += 1) {
          out = tf.tanh(tf.matMul(s as tfjs.Tensor, phi));
          phi = tf.sub(phi, tf.matMul(s as tfjs.Tensor, out, true));
        }
        return [out, tf.sum(phi, 0)];
      },
      input,
    );
    const again = rewriteGraph(once);
    expect(operationCounts(again)).toEqual(operationCounts(once));
  });
});
