// Without the native library the same interface runs eagerly, with the same ownership.

import type * as tfjs from '@tensorflow/tfjs';
import { beforeAll, expect, test } from 'vitest';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { leavesOf } from '../../../worker/compute/engine/capture/tensor-structure.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import {
  innerLoop,
  innerLoopInput,
  type InnerLoopShape,
} from '../../fixtures/compute/inner-loop-cases.js';

type Tensor = tfjs.Tensor;

let engine: Engine;
let tf: typeof tfjs;
beforeAll(async () => {
  engine = await loadEngine('cpu', () => undefined);
  tf = engine.tf;
});

test('only results survive, separate from inputs and constants', () => {
  const x = tf.tensor1d([1, 2]);
  const constant = tf.scalar(7);
  const compute = (input: Tensor): Tensor[] => {
    const doubled = tf.mul(input, 2);
    return [input, constant, tf.add(doubled, 1), doubled, doubled];
  };
  const captured = capture(engine, compute, { name: 'subject' });
  const before = tf.memory().numTensors;
  const results = captured.run(x);
  expect(tf.memory().numTensors).toBe(before + 5);
  results[3]!.dispose();
  expect(results.slice(0, 3).map((tensor) => tensor.arraySync())).toEqual([[1, 2], 7, [3, 5]]);
  expect(results[4]!.arraySync()).toEqual([2, 4]);
  tf.dispose(results);
  expect(x.arraySync()).toEqual([1, 2]);
  expect(constant.arraySync()).toBe(7);
  expect(tf.memory().numTensors).toBe(before);
  captured.dispose();
  expect(() => captured.run(x)).toThrow(/subject was disposed/);
});

test('an inner loop by shape gives the same result as without a capture', () => {
  const shape: InnerLoopShape = {
    ...{ seed: 1, rowCounts: [3, 0], paddingRowCount: 1, tableRowCount: 5, tableWidth: 3 },
    ...{ bagLength: 2, hiddenWidths: [4], stepCount: 1, order: 2, activation: 'relu' },
  };
  const compute = innerLoop(engine, shape);
  const captured = capture(engine, compute, { name: 'inner loop' });
  tf.tidy(() => {
    const input = innerLoopInput(engine, shape);
    const arrays = (output: ReturnType<typeof compute>): unknown =>
      leavesOf(output).map(({ path, tensor }) => [path, tensor.arraySync()]);
    expect(arrays(captured.run(input))).toEqual(arrays(compute(input)));
  });
  captured.dispose();
});
