// First and second derivatives of every operation that inner loops use, against central
// differences, and their cost: the operation count must not grow with the tasks.

import { beforeAll, describe, expect, test } from 'vitest';
import type * as tfjs from '@tensorflow/tfjs';
import { randomStream } from '../../../shared/base/random.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import { nativeBackendOf } from '../../../worker/compute/engine/native-backend.js';
import { flatTaskLosses, taskLosses } from '../../../worker/compute/meta-gradients/passes.js';
import type { LossTerms } from '../../../worker/compute/models/device-tasks.js';
import { fieldSums } from '../../../worker/compute/engine/kernels.js';
import { relativeDifference } from '../../fixtures/compute/compute-inputs.js';

/** Tensors it closes over are created once, outside the differentiated function. */
type Operation = (engine: Engine) => (x: tfjs.Tensor) => tfjs.Tensor;

/** Depends on shape and seed alone; no value is near 0, where ReLU has no derivative. */
function values(shape: readonly number[], name: string): Float32Array {
  const stream = randomStream(3, name);
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    const value = stream.normal();
    return value + (value < 0 ? -0.2 : 0.2);
  });
}

const constant = ({ tf }: Engine, shape: number[], name: string): tfjs.Tensor =>
  tf.tensor(values(shape, name), shape);
const index = ({ tf }: Engine, ...places: number[]): tfjs.Tensor1D => tf.tensor1d(places, 'int32');

const operations: [string, number[], Operation][] = [
  ['add, same shape', [2, 3], (e) => (x) => e.tf.add(x, e.tf.mul(x, x))],
  [
    'add to a wider shape',
    [3],
    (e) => (x) => e.tf.add(constant(e, [4, 2, 3], 'a'), e.tf.mul(x, x)),
  ],
  [
    'add over a kept axis',
    [4, 1, 3],
    (e) => (x) => e.tf.add(e.tf.square(x), constant(e, [4, 2, 3], 'a')),
  ],
  [
    'add over axes both new and kept',
    [2, 1],
    (e) => (x) => e.tf.add(e.tf.square(x), constant(e, [3, 2, 4], 'a')),
  ],
  ['a number to a matrix', [], (e) => (x) => e.tf.add(constant(e, [2, 2], 'a'), e.tf.square(x))],
  ['sub, from the right', [1, 3], (e) => (x) => e.tf.sub(constant(e, [2, 3], 'a'), e.tf.square(x))],
  ['sub, from the left', [2, 1], (e) => (x) => e.tf.sub(e.tf.square(x), constant(e, [2, 3], 'a'))],
  ['mul with itself', [2, 3], (e) => (x) => e.tf.mul(x, x)],
  ['mul over axes', [2, 1, 3], (e) => (x) => e.tf.mul(x, e.tf.sum(x, 0))],
  ['mul by whole numbers', [3], (e) => (x) => e.tf.mul(e.tf.square(x), index(e, 2, 3, 5))],
  ['square', [2, 3], (e) => (x) => e.tf.square(x)],
  ['sum of all', [2, 3], (e) => (x) => e.tf.sum(e.tf.square(x))],
  ['sum over the last axis', [2, 3], (e) => (x) => e.tf.sum(e.tf.square(x), -1)],
  ['sum over two axes', [2, 3, 4], (e) => (x) => e.tf.sum(e.tf.square(x), [0, 2])],
  ['sum that keeps its axis', [2, 3], (e) => (x) => e.tf.sum(e.tf.square(x), 1, true)],
  ['sum over an axis of one', [2, 1, 3], (e) => (x) => e.tf.sum(e.tf.square(x), 1)],
  ['tile of a vector', [3], (e) => (x) => e.tf.tile(e.tf.square(x), [4])],
  ['tile over all axes', [2, 1, 3], (e) => (x) => e.tf.tile(e.tf.square(x), [2, 5, 3])],
  ['tile over axes of one', [1, 3, 1], (e) => (x) => e.tf.tile(e.tf.square(x), [4, 1, 2])],
  ['tile that repeats nothing', [2, 3], (e) => (x) => e.tf.tile(e.tf.square(x), [1, 1])],
  ['reshape', [2, 6], (e) => (x) => e.tf.reshape(e.tf.square(x), [3, 4])],
  ['reshape to the same', [2, 3], (e) => (x) => e.tf.add(e.tf.reshape(e.tf.square(x), [2, 3]), x)],
  [
    'expandDims and squeeze',
    [2, 3],
    (e) => (x) => e.tf.squeeze(e.tf.expandDims(e.tf.square(x), 1), [1]),
  ],
  ['a copy', [2, 3], (e) => (x) => e.tf.add(e.tf.clone(e.tf.square(x)), e.tf.clone(x))],
  [
    'concat of three parts',
    [2, 3],
    (e) => (x) => e.tf.concat([e.tf.square(x), e.tf.ones([2, 2]), e.tf.mul(x, 3)], 1),
  ],
  ['concat over the last axis', [2, 3], (e) => (x) => e.tf.concat([x, e.tf.square(x)], -1)],
  [
    'split',
    [2, 4],
    (e) => (x) => e.tf.mul(...(e.tf.split(x, 2, -1) as [tfjs.Tensor, tfjs.Tensor])),
  ],
  ['slice', [3, 4], (e) => (x) => e.tf.slice(e.tf.square(x), [1, 0], [2, 3])],
  [
    'pad',
    [2, 3],
    (e) => (x) =>
      e.tf.pad(e.tf.square(x), [
        [0, 1],
        [2, 0],
      ]),
  ],
  ['softplus and sigmoid', [2, 3], (e) => (x) => e.tf.mul(e.tf.softplus(x), x)],
  ['sigmoid', [2, 3], (e) => (x) => e.tf.sigmoid(e.tf.square(x))],
  ['tanh', [2, 3], (e) => (x) => e.tf.tanh(x)],
  ['exp', [2, 3], (e) => (x) => e.tf.exp(x)],
  ['elu', [2, 3], (e) => (x) => e.tf.elu(x)],
  ['softmax', [2, 3], (e) => (x) => e.tf.softmax(x)],
  [
    'matMul from the left',
    [2, 3, 4],
    (e) => (x) => e.tf.matMul(e.tf.square(x), constant(e, [2, 4, 5], 'a')),
  ],
  [
    'matMul from the right',
    [2, 4, 3],
    (e) => (x) => e.tf.matMul(constant(e, [2, 5, 4], 'a'), e.tf.square(x)),
  ],
  ['matMul with itself', [3, 3], (e) => (x) => e.tf.matMul(x, x)],
  ['relu', [3, 4], (e) => (x) => e.kernels.relu(e.tf.mul(x, 2))],
  [
    'gatherRows',
    [4, 2],
    (e) => {
      const places = index(e, 3, 0, 0, 2, 3);
      return (x) => e.kernels.gatherRows(e.tf.square(x) as tfjs.Tensor2D, places);
    },
  ],
  [
    'sumSegments',
    [5, 2],
    (e) => {
      const segments = index(e, 1, 0, 1, 3, 1);
      return (x) => e.kernels.sumSegments(e.tf.square(x) as tfjs.Tensor2D, segments, 4);
    },
  ],
  [
    'solve, in both of its inputs',
    [2, 3, 4],
    ({ tf, kernels }) =>
      (x) => {
        const positive = tf.add(tf.matMul(x, x, false, true), tf.eye(3));
        const columns = tf.slice(x, [0, 0, 0], [2, 3, 1]);
        return kernels.solve(positive as tfjs.Tensor3D, columns as tfjs.Tensor3D);
      },
  ],
  ['repeatByTask', [2, 3], (e) => (x) => e.kernels.repeatByTask(e.tf.square(x), 4)],
  ['fieldSums', [2, 3, 4], (e) => (x) => fieldSums(e.tf, x as tfjs.Tensor3D)],
  [
    'taskLosses',
    [3, 4],
    (e) => {
      const terms = lossTerms(e, [3, 4]);
      return (x) => taskLosses(e, x as tfjs.Tensor2D, terms);
    },
  ],
  [
    'taskLosses, the second task of values',
    [3, 4],
    (e) => {
      const terms = lossTerms(e, [3, 4], e.tf.tensor2d([0, 1, 0], [3, 1]));
      return (x) => taskLosses(e, x as tfjs.Tensor2D, terms);
    },
  ],
  [
    'flatTaskLosses, the second task of values',
    [1, 5],
    (e) => {
      const terms = lossTerms(e, [1, 5], e.tf.tensor2d([0, 0, 1, 1, 0], [1, 5]));
      const taskOfPlace = index(e, 0, 0, 1, 1, 2);
      return (x) => flatTaskLosses(e, x as tfjs.Tensor2D, terms, { taskOfPlace, taskCount: 3 });
    },
  ],
];

/** @param isOfValues 1 in rows with the squared loss */
function lossTerms(engine: Engine, shape: [number, number], isOfValues?: tfjs.Tensor2D): LossTerms {
  const { tf } = engine;
  const impressionShares = tf.abs(constant(engine, shape, 'impressions')) as tfjs.Tensor2D;
  const clickShares = tf.mul<tfjs.Tensor2D>(impressionShares, 0.3);
  if (isOfValues === undefined) return { impressionShares, clickShares };
  const ofValues = tf.mul<tfjs.Tensor2D>(impressionShares, isOfValues);
  const squared = { impressionShares: ofValues, constants: tf.mul<tfjs.Tensor2D>(ofValues, 0.7) };
  return { impressionShares, clickShares, squared };
}

/** Sum over the results y of w softplus(y), so that every derivative of the operation counts. */
function objective(engine: Engine, operation: Operation): (x: tfjs.Tensor) => tfjs.Scalar {
  const { tf } = engine;
  const computed = operation(engine);
  return (x) => {
    const y = computed(x);
    return tf.sum(tf.mul(constant(engine, y.shape, 'weights'), tf.softplus(y)));
  };
}

// The order matters: the library has one backend at a time.
describe('the cost of second derivatives', () => {
  /** Native operations in a second-order step of a small network in which all weights are personal. */
  function operationCount(engine: Engine, taskCount: number, innerSteps: number): number {
    const { tf, kernels } = engine;
    const backend = nativeBackendOf(tf);
    if (backend === null) throw new Error('needs the native backend');
    const { binding } = backend;
    let count = 0;
    backend.binding = Object.create(binding, {
      executeOp: {
        value: (...call: Parameters<typeof binding.executeOp>) => {
          count += 1;
          return binding.executeOp(...call);
        },
      },
    }) as typeof binding;
    try {
      tf.tidy(() => {
        const rows = constant(engine, [taskCount, 4, 3], 'rows');
        const weights = [constant(engine, [3, 5], 'w0'), constant(engine, [5, 1], 'w1')];
        const loss = (own: tfjs.Tensor[]): tfjs.Scalar => {
          const hidden = kernels.relu(tf.matMul(rows, own[0]!));
          return tf.sum(tf.softplus(tf.matMul(hidden, own[1]!)));
        };
        tf.grads((...initial: tfjs.Tensor[]) => {
          let own = initial.map((w) => kernels.repeatByTask(w, taskCount));
          for (let done = 0; done < innerSteps; done += 1) {
            const gradients = tf.grads((...at: tfjs.Tensor[]) => loss(at))(own);
            own = own.map((w, place) => tf.sub(w, gradients[place]!));
          }
          return loss(own);
        })(weights);
      });
    } finally {
      backend.binding = binding;
    }
    return count;
  }

  test('grows with the inner steps and not with the tasks', async () => {
    const engine = await loadEngine('tensorflow', () => undefined);
    const few = operationCount(engine, 2, 3);
    expect(operationCount(engine, 40, 3)).toBe(few);
    const perStep = operationCount(engine, 2, 4) - few;
    expect(operationCount(engine, 2, 9)).toBe(few + 6 * perStep);
    expect(perStep).toBeLessThan(70);
  });
});

const step = 0.02;

describe.each(['tensorflow', 'cpu'] as const)('on %s', (choice) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await loadEngine(choice, () => undefined);
  });

  test.each(operations)('%s', (_name, shape, operation) => {
    const { tf } = engine;
    tf.tidy(() => {
      const x = constant(engine, shape, 'x');
      const value = objective(engine, operation);
      const gradient = tf.grad(value);
      const along = constant(engine, shape, 'direction');
      const [ahead, behind] = [step, -step].map((size) => tf.add(x, tf.mul(along, size)));
      const slope = tf.sum(tf.mul(gradient(x), along)).dataSync()[0]!;
      const rise = value(ahead!).dataSync()[0]! - value(behind!).dataSync()[0]!;
      expect(relativeDifference([slope], [rise / (2 * step)], 0.1), 'gradient').toBeLessThan(5e-3);

      const curvature = tf.grad((at: tfjs.Tensor) => tf.sum(tf.mul(gradient(at), along)))(x);
      const change = tf.div(tf.sub(gradient(ahead!), gradient(behind!)), 2 * step);
      expect(
        relativeDifference(curvature.dataSync(), change.dataSync(), 0.1),
        'Hessian',
      ).toBeLessThan(2e-2);
      // A zero Hessian would prove nothing.
      expect(Math.max(...curvature.dataSync().map(Math.abs))).toBeGreaterThan(1e-3);
    });
  });
});
