// A captured function equals the eager one for every arrangement of its tensors.

import type * as tfjs from '@tensorflow/tfjs';
import { beforeAll, describe, expect, test } from 'vitest';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import {
  leavesOf,
  type TensorStructure,
} from '../../../worker/compute/engine/capture/tensor-structure.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';

type Tensor = tfjs.Tensor;

let engine: Engine;
let tf: typeof tfjs;
beforeAll(async () => {
  engine = await loadEngine('tensorflow', () => undefined);
  tf = engine.tf;
});

const options = { name: 'subject', rewrites: false };
const tensors = (): number => tf.memory().numTensors;

const disposeLeaves = (structure: TensorStructure): void =>
  tf.dispose(leavesOf(structure).map(({ tensor }) => tensor));

/** Runs once and frees everything; returns paths and values of the results. */
function resultsOf<In extends TensorStructure>(
  compute: (input: In) => TensorStructure,
  input: In,
  example = input,
): [string, unknown][] {
  const captured = capture(engine, compute, example, options);
  const before = tensors();
  const output = captured.run(input);
  const found = leavesOf(output).map(({ path, tensor }): [string, unknown] => [
    path,
    tensor.arraySync(),
  ]);
  disposeLeaves(output);
  expect(tensors()).toBe(before);
  captured.dispose();
  return found;
}

describe('a captured function', () => {
  test('differentiates inside, leaves nothing behind, and does not run after disposal', () => {
    const before = tensors();
    const x = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    const compute = (input: { x: Tensor }): { loss: Tensor; gradient: Tensor } => {
      const { value, grad } = tf.valueAndGrad((at: Tensor) => tf.sum(tf.matMul(at, at)))(input.x);
      return { loss: value, gradient: grad };
    };
    const captured = capture(engine, compute, { x }, options);
    expect(tensors()).toBe(before + 1);
    const { loss, gradient } = captured.run({ x });
    expect(loss.arraySync()).toBe(7 + 10 + 15 + 22);
    expect(gradient.arraySync()).toEqual([
      [7, 11],
      [9, 13],
    ]);
    tf.dispose([loss, gradient, x]);
    captured.dispose();
    captured.dispose();
    expect(tensors()).toBe(before);
    expect(() => captured.run({ x })).toThrow(/subject was disposed/);
  });

  test('accepts nested lists and records of every element type, in an order fixed by names', () => {
    const example = {
      b: [tf.scalar(1), { z: tf.scalar(2, 'int32'), a: tf.scalar(true) }] as const,
      a: tf.tensor1d([7, 8]),
    };
    const captured = capture(engine, (input: typeof example) => input, example, options);
    expect(captured.inputPaths).toEqual(['a', 'b[0]', 'b[1].a', 'b[1].z']);
    expect(captured.resultPaths).toEqual(captured.inputPaths);
    const output = captured.run({ a: example.a, b: example.b });
    expect(output.b[1].z.dtype).toBe('int32');
    expect(output.b[1].a.dtype).toBe('bool');
    expect(output.a.arraySync()).toEqual([7, 8]);
    captured.dispose();
    disposeLeaves([output, example]);
  });

  test('returns an input, a constant and a repeated value as separate results', () => {
    const x = tf.tensor1d([1, 2]);
    const compute = (input: Tensor): Tensor[] => {
      const twice = tf.mul(input, 2);
      return [input, tf.tensor1d([5, 6]), twice, twice];
    };
    const captured = capture(engine, compute, x, options);
    const results = captured.run(x);
    expect(new Set([x, ...results].map(({ dataId }) => dataId)).size).toBe(5);
    x.dispose();
    results[2]!.dispose();
    expect(results[0]!.arraySync()).toEqual([1, 2]);
    expect(results[1]!.arraySync()).toEqual([5, 6]);
    expect(results[3]!.arraySync()).toEqual([2, 4]);
    tf.dispose(results);
    captured.dispose();
  });

  test('preserves dimensions of 0, the sign of zero, and NaN and infinities', () => {
    const x = tf.tensor2d([], [0, 3]);
    const compute = (input: Tensor): Tensor[] => [
      tf.sum(input, 0),
      tf.concat([input, tf.ones([1, 3])]),
      tf.tensor1d([-0, -0]),
      tf.tensor1d([0, -0]),
      tf.fill([2], NaN),
    ];
    expect(resultsOf(compute, x)).toEqual([
      ['[0]', [0, 0, 0]],
      ['[1]', [[1, 1, 1]]],
      ['[2]', [-0, -0]],
      ['[3]', [0, -0]],
      ['[4]', [NaN, NaN]],
    ]);
  });

  test('keeps the closed-over tensors as they were, even if they are disposed or not yet uploaded', () => {
    const made = tf.tidy(() => tf.add(tf.tensor1d([1, 2]), 1));
    const pending = tf.tensor1d([10, 20]);
    const mask = tf.tidy(() => tf.logicalNot(tf.tensor1d([0, 1], 'bool')));
    const x = tf.scalar(1);
    const compute = (input: Tensor): Tensor =>
      tf.where(mask, tf.addN([made, pending, tf.mul(made, input)]), made);
    const captured = capture(engine, compute, x, options);
    tf.dispose([made, pending, mask]);
    const result = captured.run(x);
    expect(result.arraySync()).toEqual([2 + 10 + 2, 3]);
    captured.dispose();
    tf.dispose([x, result]);
  });

  test('refuses inputs whose places, shapes or types differ from the example', () => {
    const example = { x: tf.tensor1d([1, 2]) };
    const captured = capture(engine, (input: typeof example) => input.x, example, options);
    const before = tensors();
    const run = (input: TensorStructure) => () => captured.run(input as typeof example);
    expect(run({ x: tf.tensor1d([1, 2, 3]) })).toThrow(/input x is float32 \[3\].*float32 \[2\]/);
    expect(run({ x: tf.tensor1d([1, 2], 'int32') })).toThrow(/input x is int32 \[2\]/);
    expect(run({ y: example.x })).toThrow(/captured for tensors at \(x\), called with \(y\)/);
    expect(tensors()).toBe(before + 2);
    captured.dispose();
  });
});
