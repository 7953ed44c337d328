// Functions that cannot be captured are refused with the name and line of the cause, and leave
// nothing behind.

import type * as tfjs from '@tensorflow/tfjs';
import { beforeAll, beforeEach, afterEach, describe, expect, test } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import {
  nativeBackendOf,
  type NativeBackend,
} from '../../../worker/compute/engine/native-backend.js';

type Tensor = tfjs.Tensor;

const engine = await loadEngine('tensorflow', () => undefined);
const { tf } = engine;
let backend: NativeBackend;
let x: Tensor;
let tensorCount = 0;
beforeAll(() => {
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
    capture(engine, compute, { name: 'subject' }).run(input);
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

  test('an input that is read back, by name', () => {
    const { report } = refusalOf((input) => tf.scalar(input.arraySync() as unknown as number));
    expect(report.found).toBe('the input itself');
  });

  test('a read by the library itself: tf.gather looks at its indices', () => {
    const { report } = refusalOf((input) => tf.gather(input, tf.cast(tf.relu(input), 'int32')));
    expect(report.found).toBe('the result of Cast');
    expect(report.cure).toMatch(/gatherRows/);
  });

  test('a refusal that the function swallows', () => {
    const { report } = refusalOf((input) => {
      try {
        return tf.scalar(tf.neg(input).dataSync()[0]!);
      } catch {
        return tf.scalar(0);
      }
    });
    expect(report.found).toBe('the result of Neg');
  });

  test('a promise of a value', async () => {
    let read: Promise<unknown> = Promise.resolve();
    const { report } = refusalOf((input) => {
      read = tf.neg(input).data();
      return input;
    });
    expect(report.found).toBe('the result of Neg');
    await expect(read).rejects.toThrow(/read back/);
  });

  test('a shape that depends on data: the mask of tf.whereAsync', () => {
    const { report } = refusalOf((input) => {
      tf.whereAsync(tf.greater(input, 0)).catch(() => undefined);
      return input;
    });
    expect(report.found).toBe('the result of Greater');
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
    const captured = capture(engine, seeded, { name: 'seeded' });
    const [found, expected] = tf.tidy(() => [captured.run(x).arraySync(), seeded(x).arraySync()]);
    expect(found).toEqual(expected);
    captured.dispose();
  });

  test('no stateless operation: it draws the same values for the same seed', () => {
    const { TF_ATTR_TYPE: type } = backend.binding;
    const attributes = [
      { name: 'dtype', type, value: backend.getDTypeInteger('float32') },
      { name: 'Tseed', type, value: backend.getDTypeInteger('int32') },
      { name: 'T', type, value: backend.getDTypeInteger('int32') },
    ];
    const draw = (input: Tensor): Tensor => {
      const [shape, seed] = [tf.tensor1d([3], 'int32'), tf.tensor1d([4, 2], 'int32')];
      const drawn = backend.executeSingleOutput('StatelessRandomNormal', attributes, [shape, seed]);
      return tf.add(input, drawn);
    };
    const captured = capture(engine, draw, { name: 'stateless' });
    const arrays = tf.tidy(() =>
      [draw(x), captured.run(x), captured.run(x)].map((y) => y.arraySync()),
    );
    expect(arrays[1]).toEqual(arrays[0]);
    expect(arrays[2]).toEqual(arrays[0]);
    captured.dispose();
  });

  test('strings', () => {
    const text = tf.tensor1d(['a', 'b']);
    expect(refusalOf((input) => input, text).report.what).toMatch(/the input itself cannot/);
    expect(refusalOf(() => tf.stack([tf.scalar('a')])).report.found).toMatch(/number 7/);
    expect(refusalOf(() => tf.stack([text])).report.what).toMatch(/outside|constant/);
    text.dispose();
  });

  test('results that are not tensors', () => {
    const number = (): Tensor => 3 as unknown as Tensor;
    expect(() => capture(engine, number, { name: 'subject' }).run(x)).toThrow(/no tensor, list/);
  });
});
