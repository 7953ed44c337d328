// Every kind of operation that the addon has kernels for, captured without rewriting, is bit-equal
// to eager execution.

import type * as tfjs from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';

type Tensor = tfjs.Tensor;

const engine = await loadEngine('tensorflow', () => undefined);
const { tf } = engine;

/** `a`, `b` `[2, 3]`, `m` `[2, 2, 3]`, `i` of int32 `[4]`, `q` of bool `[2, 3]`. */
interface Given {
  readonly a: tfjs.Tensor2D;
  readonly b: tfjs.Tensor2D;
  readonly m: tfjs.Tensor3D;
  readonly i: tfjs.Tensor1D;
  readonly q: tfjs.Tensor2D;
}

const OPERATIONS: Readonly<Record<string, (given: Given) => Tensor | Tensor[]>> = {
  arithmetic: ({ a, b }) => [
    ...[tf.add(a, b), tf.sub(a, b), tf.mul(a, b), tf.div(a, b), tf.divNoNan(a, b)],
    ...[tf.floorDiv(a, b), tf.mod(a, b), tf.maximum(a, b), tf.minimum(a, b)],
    ...[tf.pow(tf.abs(a), b), tf.squaredDifference(a, b), tf.addN([a, b, a]), tf.atan2(a, b)],
  ],
  'arithmetic of integers': ({ i }) => [
    tf.add(i, i),
    tf.mul(i, i),
    tf.floorDiv(i, tf.scalar(2, 'int32')),
  ],
  unary: ({ a }) => [
    ...[tf.neg(a), tf.abs(a), tf.exp(a), tf.expm1(a), tf.log(tf.abs(a)), tf.log1p(tf.abs(a))],
    ...[tf.sqrt(tf.abs(a)), tf.rsqrt(tf.abs(a)), tf.square(a), tf.sign(a), tf.step(a), tf.round(a)],
    ...[tf.floor(a), tf.ceil(a), tf.sin(a), tf.cos(a), tf.tan(a), tf.tanh(a), tf.erf(a)],
    ...[
      tf.sinh(a),
      tf.cosh(a),
      tf.asinh(a),
      tf.atan(a),
      tf.reciprocal(a),
      tf.clipByValue(a, -1, 1),
    ],
  ],
  activations: ({ a }) => [
    ...[tf.relu(a), tf.relu6(a), tf.elu(a), tf.selu(a), tf.leakyRelu(a), tf.sigmoid(a)],
    ...[tf.softplus(a), tf.logSigmoid(a), tf.logSoftmax(a), tf.prelu(a, [[0.1]])],
  ],
  comparisons: ({ a, b }) => [
    ...[tf.less(a, b), tf.lessEqual(a, b), tf.greater(a, b), tf.greaterEqual(a, b)],
    ...[tf.equal(a, b), tf.notEqual(a, b), tf.isNaN(a), tf.isFinite(a), tf.isInf(a)],
  ],
  logic: ({ a, b, q }) => [
    ...[tf.logicalAnd(q, q), tf.logicalOr(q, q), tf.logicalNot(q), tf.logicalXor(q, q)],
    ...[tf.where(q, a, b), tf.any(q), tf.all(q, 1)],
  ],
  reductions: ({ a, m }) => [
    ...[tf.sum(a), tf.sum(a, 0), tf.sum(a, 1, true), tf.mean(a, 1), tf.max(a, 1), tf.min(a)],
    ...[tf.prod(a, 0), tf.argMax(a, 1), tf.argMin(a), tf.cumsum(a, 1), tf.cumprod(a, 0)],
    ...[tf.logSumExp(a), tf.norm(a), tf.sum(m, [0, 2]), tf.moments(a).variance],
  ],
  products: ({ a, b, m }) => [
    ...[tf.matMul(a, b, false, true), tf.matMul(a, b, true), tf.matMul(m, m, true)],
    ...[
      tf.dot(a, tf.transpose(b)),
      tf.einsum('ij,kj->ik', a, b),
      tf.outerProduct(tf.ones([2]), tf.ones([3])),
    ],
  ],
  shapes: ({ a, m }) => [
    ...[
      tf.reshape(a, [3, 2]),
      tf.expandDims(a, 1),
      tf.squeeze(tf.expandDims(a)),
      tf.transpose(m, [2, 0, 1]),
    ],
    ...[
      tf.tile(a, [2, 1]),
      tf.broadcastTo(tf.slice(a, [0, 0], [1, 3]), [4, 3]),
      tf.pad(a, [
        [1, 0],
        [0, 2],
      ]),
    ],
    ...[
      tf.mirrorPad(
        a,
        [
          [1, 0],
          [1, 1],
        ],
        'reflect',
      ),
      tf.reverse(a, 1),
      tf.cast(a, 'int32'),
      tf.cast(a, 'bool'),
    ],
    ...[
      tf.concat([a, a], 1),
      tf.stack([a, a]),
      ...tf.unstack(a),
      ...tf.split(a, [1, 2], 1),
      ...tf.split(a, 3, 1),
    ],
  ],
  slices: ({ a, m }) => [
    ...[tf.slice(m, [0, 1, 0], [2, 1, -1]), tf.stridedSlice(a, [0, 0], [2, 3], [1, 2])],
  ],
  constants: ({ a }) => [
    ...[tf.zerosLike(a), tf.onesLike(a), tf.fill([2, 2], 3), tf.range(0, 4), tf.linspace(0, 1, 5)],
    ...[tf.eye(3), tf.zeros([0, 3]), tf.ones([2, 3], 'int32'), tf.scalar(true), tf.scalar(-0)],
  ],
  indices: ({ a, i }) => [
    ...[
      tf.oneHot(i, 5),
      tf.oneHot(i, 5, 2, -1),
      tf.gatherND(a, tf.tensor2d([[0, 1]], [1, 2], 'int32')),
    ],
    ...[tf.scatterND(tf.expandDims(i, 1), tf.ones([4]), [6]), tf.bincount(i, [], 4)],
    ...[tf.unsortedSegmentSum(tf.ones([4, 2]), i, 4), tf.tensorScatterUpdate(a, [[0], [1]], a)],
    ...[tf.sparseToDense([1, 3], [5, 6], [6], 0), tf.topk(a, 2).values, tf.topk(a, 2).indices],
    ...[tf.gather(a, tf.tensor1d([1, 0, 1], 'int32')), tf.diag(tf.ones([3]))],
  ],
  'lean operations': ({ a, i }) => [
    engine.kernels.gatherRows(a, tf.tensor1d([1, 0, 1], 'int32')),
    engine.kernels.sumSegments(tf.ones([4, 2]), i, 4),
    engine.kernels.relu(a),
  ],
  'fused products': ({ a, b }) => [
    tf.fused.matMul({ a, b, transposeB: true, bias: tf.tensor1d([1, 2]), activation: 'relu' }),
  ],
  gradients: ({ a, b }) => {
    const all = (x: tfjs.Tensor2D): tfjs.Scalar => {
      const deep = tf.tanh(tf.matMul(tf.relu(x), b, false, true));
      const wide = tf.tile(tf.logSoftmax(x), [2, 1]);
      const cut = tf.concat(
        [tf.slice(x, [0, 1], [2, 2]), tf.softplus(tf.transpose(tf.reshape(x, [3, 2])))],
        1,
      );
      return tf.addN([tf.mean(deep), tf.sum(wide), tf.sum(tf.square(cut))]).asScalar();
    };
    const gradient = tf.grad(all as (x: Tensor) => Tensor);
    const second = tf.grad((x) => tf.sum(tf.square(gradient(x))));
    return [gradient(a), second(a)];
  },
};

test.each(Object.keys(OPERATIONS))(
  'a captured operation is bit-equal to the eager one: %s',
  (name) => {
    const input = {
      a: tf.tensor2d([0.5, -1.25, 2, -0.75, 3, 1.5], [2, 3]),
      b: tf.tensor2d([1.5, 2.25, -3, 0.5, 1, -2], [2, 3]),
      m: tf.tensor3d(
        [...Array(12).keys()].map((n) => n / 8 - 0.7),
        [2, 2, 3],
      ),
      i: tf.tensor1d([3, 0, 2, 3], 'int32'),
      q: tf.tensor2d([1, 0, 0, 1, 1, 0], [2, 3], 'bool'),
    };
    const before = tf.memory().numTensors;
    const compute = (given: typeof input): Tensor[] => [OPERATIONS[name]!(given)].flat();
    const captured = capture(engine, compute, { name, rewrites: false });
    const expected = tf.tidy(() => compute(input));
    const found = captured.run(input);
    for (const [index, { shape, dtype }] of expected.entries())
      expect({ shape: found[index]!.shape, dtype: found[index]!.dtype }).toEqual({ shape, dtype });
    // toEqual distinguishes -0 from 0.
    expect(found.map((tensor) => tensor.dataSync())).toEqual(
      expected.map((tensor) => tensor.dataSync()),
    );
    tf.dispose([...expected, ...found]);
    captured.dispose();
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose(input);
  },
);

test('softmax, which oneDNN replaces only in graphs, differs in its last bits', () => {
  const input = tf.tensor2d([0.5, -1.25, 2, -0.75, 3, 1.5], [2, 3]);
  const softmax = (x: Tensor): Tensor => tf.softmax(x);
  const captured = capture(engine, softmax, { name: 'softmax', rewrites: false });
  const [found, expected] = tf.tidy(() => [
    captured.run(input).dataSync(),
    softmax(input).dataSync(),
  ]);
  for (const [index, value] of expected.entries())
    expect(Math.abs(found[index]! - value)).toBeLessThan(2 ** -22);
  captured.dispose();
  input.dispose();
});
