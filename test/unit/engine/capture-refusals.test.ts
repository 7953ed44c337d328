// Functions that cannot be captured are refused with the name and line of the cause, and leave
// nothing behind.

import type * as tfjs from '@tensorflow/tfjs';
import { beforeAll, beforeEach, afterEach, describe, expect, test } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import {
  nativeBackendOf,
  type NativeBackend,
} from '../../../worker/compute/engine/native-backend.js';

type Tensor = tfjs.Tensor;

let engine: Engine;
let tf: typeof tfjs;
let backend: NativeBackend;
let x: Tensor;
let tensorCount = 0;
beforeAll(async () => {
  engine = await loadEngine('tensorflow', () => undefined);
  tf = engine.tf;
  backend = nativeBackendOf(tf)!;
});
beforeEach(() => {
  x = tf.tensor1d([1, -2, 3]);
  tensorCount = tf.memory().numTensors;
});
afterEach(() => {
  expect(tf.memory().numTensors).toBe(tensorCount);
  x.dispose();
});

function refusalOf(compute: (x: Tensor) => Tensor, input = x): QianmoError {
  const { binding } = backend;
  const random = Reflect.getOwnPropertyDescriptor(Math, 'random');
  try {
    capture(engine, compute, input, { name: 'subject' }).dispose();
  } catch (error) {
    expect(backend.binding).toBe(binding);
    expect(Reflect.getOwnPropertyDescriptor(Math, 'random')).toEqual(random);
    expect(error).toBeInstanceOf(QianmoError);
    return error as QianmoError;
  }
  throw new Error('nothing was refused');
}

/** The line of this file that contains the function being called. */
function lineHere(): number {
  const [, , frame = ''] = (new Error('where').stack ?? '').split('\n');
  return Number(/:(\d+):\d+\)?$/.exec(frame)?.[1]);
}

describe('a capture refuses', () => {
  test('a value that is read back, naming its operation and the line of the read', () => {
    let line = 0;
    const { report } = refusalOf((input) => {
      const doubled = tf.mul(input, 2);
      line = lineHere() + 1;
      return tf.scalar(doubled.dataSync()[0]!);
    });
    expect(report.what).toMatch(/read back/);
    expect(report.found).toBe('the result of Mul');
    expect(report.where).toMatch(new RegExp(`capture-refusals\\.test\\.ts:${line}$`));
  });

  test('a read by the library itself: tf.gather looks at its indices', () => {
    const { report } = refusalOf((input) => tf.gather(input, tf.cast(tf.relu(input), 'int32')));
    expect(report.found).toBe('the result of Cast');
    expect(report.cure).toMatch(/gatherRows/);
  });

  test.each<[string, (x: Tensor) => Tensor]>([
    ['Multinomial', (input) => tf.multinomial(input as tfjs.Tensor1D, 2, 7)],
    ['UniqueV2', (input) => tf.unique(input).values],
    [
      'NonMaxSuppressionV3',
      (input) => tf.image.nonMaxSuppression(tf.ones([3, 4]), input as tfjs.Tensor1D, 2),
    ],
    ['Complex', (input) => tf.complex(input, input)],
  ])('the operation %s', (name, compute) => {
    const { report } = refusalOf(compute);
    expect(report.what).toContain(name);
    expect(report.where).toMatch(/capture-refusals\.test\.ts:\d+$/);
  });

  test('randomness without a seed, but not with one', () => {
    for (const draw of [
      () => tf.randomNormal([3]),
      () => tf.randomUniform([3]),
      () => tf.truncatedNormal([3]),
      () => tf.dropout(x, 0.5),
      () => tf.rand([3], () => Math.random()),
    ])
      expect(refusalOf(() => draw()).report.what).toMatch(/random tensor without a seed/);
    const seeded = (input: Tensor): Tensor =>
      tf.add(input, tf.randomNormal([3], 0, 1, 'float32', 7));
    const captured = capture(engine, seeded, x, { name: 'seeded' });
    const [found, expected] = tf.tidy(() => [captured.run(x).arraySync(), seeded(x).arraySync()]);
    expect(found).toEqual(expected);
    captured.dispose();
  });

  test('variables that it closes over, assigns or creates; variables passed as inputs are tensors', () => {
    const variable = tf.tidy(() => tf.variable(tf.scalar(2), true, 'rate'));
    const bare = tf.tidy(() => tf.variable(tf.tensor1d([1, 1, 1]), true, 'bare'));
    expect(refusalOf((input) => tf.mul(input, variable)).report.what).toMatch(/variable rate/);
    expect(refusalOf(() => variable).report.what).toMatch(/variable rate/);
    const assigning = refusalOf((input) => {
      bare.assign(tf.neg(input).as1D());
      return input;
    });
    expect(assigning.report.what).toMatch(/assigns to the variable bare/);
    const making = refusalOf((input) => {
      tf.variable(input, true, 'fresh');
      return input;
    });
    expect(making.report.what).toMatch(/makes the variable fresh/);
    const captured = capture(engine, (at: Tensor) => tf.mul(at, 3), variable as Tensor, {
      name: 'scale',
    });
    tf.tidy(() => {
      variable.assign(tf.scalar(5));
      expect(captured.run(variable).arraySync()).toBe(15);
    });
    captured.dispose();
    tf.disposeVariables();
  });
});
