// A captured function gives what the eager one gives, whatever the arrangement of its tensors.

import type * as tfjs from '@tensorflow/tfjs';
import { beforeAll, describe, expect, test } from 'vitest';
import { capture } from '../../worker/compute/engine/capture/capture.js';
import { loadEngine, type Engine } from '../../worker/compute/engine/load-engine.js';

let engine: Engine;
let tf: typeof tfjs;
beforeAll(async () => {
  engine = await loadEngine('tensorflow', () => undefined);
  tf = engine.tf;
});

const options = { name: 'subject', rewrites: false };

describe('inputs and outputs', () => {
  test('a product and its gradient', () => {
    const before = tf.memory().numTensors;
    const x = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    const compute = (input: { x: tfjs.Tensor }): { loss: tfjs.Tensor; gradient: tfjs.Tensor } => {
      const { value, grad } = tf.valueAndGrad((at: tfjs.Tensor) => tf.sum(tf.matMul(at, at)))(
        input.x,
      );
      return { loss: value, gradient: grad };
    };
    const captured = capture(engine, compute, { x }, options);
    expect(tf.memory().numTensors).toBe(before + 1);
    const { loss, gradient } = captured.run({ x });
    expect(loss.arraySync()).toBe(7 + 10 + 15 + 22);
    expect(gradient.arraySync()).toEqual([
      [7, 11],
      [9, 13],
    ]);
    tf.dispose([loss, gradient, x]);
    captured.dispose();
    expect(tf.memory().numTensors).toBe(before);
    expect(() => captured.run({ x })).toThrow(/subject was disposed/);
  });
});
