// A captured function equals the eager one for every arrangement of its tensors.

import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type * as tfjs from '@tensorflow/tfjs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import {
  leavesOf,
  type TensorStructure,
} from '../../../worker/compute/engine/capture/record-graph.js';
import { loadGraph, savedModelOf } from '../../../worker/compute/engine/capture/saved-model.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { nativeBackendOf } from '../../../worker/compute/engine/native-backend.js';
import { leftoversOf } from '../../fixtures/compute/capture-soak.js';

describe('capture by shape', () => {
  let callCount = 0;
  const total = ([x]: readonly Tensor[]): Tensor => {
    callCount += 1;
    return tf.sum(x!);
  };
  const newGraphCount = (): number => leftoversOf(engine).graphCount - before.graphCount;
  const runOf = (subject: { run(input: readonly Tensor[]): Tensor }, values: number[]): unknown =>
    tf.tidy(() => subject.run([tf.tensor1d(values)]).arraySync());

  // Test files before this one may have left tensors and graphs in the process that they share.
  let before: ReturnType<typeof leftoversOf>;
  beforeEach(() => {
    before = leftoversOf(engine);
  });
  afterEach(() => {
    expect(leftoversOf(engine)).toEqual(before);
  });

  test('records each shape once and frees the least recently used graph', () => {
    callCount = 0;
    const subject = capture(engine, total, { name: 'total', graphCountMax: 2 });
    expect([runOf(subject, [1]), runOf(subject, [1, 2]), runOf(subject, [3])]).toEqual([1, 3, 3]);
    // [1, 2] is the least recently used.
    expect(runOf(subject, [1, 2, 3])).toBe(6);
    expect(newGraphCount()).toBe(2);
    expect(callCount).toBe(3);
    expect(runOf(subject, [4])).toBe(4);
    expect(callCount).toBe(3);
    expect(runOf(subject, [5, 6])).toBe(11);
    expect(callCount).toBe(4);
    subject.dispose();
    expect(() => runOf(subject, [1])).toThrow(/total was disposed/);
  });

  test('distinguishes structures and element types', () => {
    const subject = capture(engine, (input: { readonly [name: string]: Tensor }) => input, {
      name: 'same',
      graphCountMax: 10,
    });
    tf.tidy(() => {
      const [float, integer] = [tf.tensor1d([1]), tf.tensor1d([1], 'int32')];
      for (const input of [{ a: float }, { b: float }, { a: integer }, { a: float, b: float }])
        expect(Object.keys(subject.run(input))).toEqual(Object.keys(input));
      subject.run({ a: tf.tensor1d([2]) });
    });
    expect(newGraphCount()).toBe(4);
    subject.dispose();
  });

  test('keeps nothing of a refused capture', () => {
    const subject = capture(engine, ([x]: readonly Tensor[]) => tf.scalar(x!.dataSync()[0]!), {
      name: 'reader',
      graphCountMax: 1,
    });
    expect(() => runOf(subject, [1])).toThrow(/read back/);
    subject.dispose();
  });

  test('inlines its graph into a captured function that calls it', () => {
    const subject = capture(engine, total, { name: 'total', graphCountMax: 1 });
    const square = (at: Tensor): Tensor => tf.square(subject.run([at]));
    const outer = capture(engine, (at: Tensor) => [square(at), tf.grad(square)(at)], {
      name: 'outer',
    });
    const found = tf.tidy(() => outer.run(tf.tensor1d([2, 3])).map((each) => each.arraySync()));
    expect(found).toEqual([25, [10, 10]]);
    expect(newGraphCount()).toBe(1);
    outer.dispose();
    subject.dispose();
  });
});

type Tensor = tfjs.Tensor;

const engine = await loadEngine('tensorflow', () => undefined);
const { tf } = engine;

const options = { name: 'subject', rewrites: false };
const tensors = (): number => tf.memory().numTensors;
const graphFolders = (): string[] =>
  readdirSync(tmpdir()).filter((name) => name.startsWith(`qianmo-graph-${process.pid}-`));

const disposeLeaves = (structure: TensorStructure): void =>
  tf.dispose(leavesOf(structure).map(({ tensor }) => tensor));

/** Runs once and frees everything; returns paths and values of the results. */
function resultsOf<In extends TensorStructure>(
  compute: (input: In) => TensorStructure,
  input: In,
  example = input,
): [string, unknown][] {
  const captured = capture(engine, compute, options);
  const before = tensors();
  disposeLeaves(captured.run(example));
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
    const captured = capture(engine, compute, options);
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

  test('uses its inputs and not the example', () => {
    const compute = ({ x, at }: { x: Tensor; at: Tensor }): Tensor => tf.add(tf.mul(x, x), at);
    const [example, input] = [
      { x: tf.scalar(3), at: tf.scalar(1) },
      { x: tf.scalar(5), at: tf.scalar(2) },
    ];
    expect(resultsOf(compute, input, example)).toEqual([['', 27]]);
  });

  test('accepts nested lists and records of every element type, in an order fixed by names', () => {
    const example = {
      b: [tf.scalar(1), { z: tf.scalar(2, 'int32'), a: tf.scalar(true) }] as const,
      a: tf.tensor1d([7, 8]),
    };
    const captured = capture(engine, (input: typeof example) => input, options);
    const output = captured.run({ a: example.a, b: example.b });
    expect(leavesOf(output).map(({ path }) => path)).toEqual(['a', 'b[0]', 'b[1].a', 'b[1].z']);
    expect(output.b[1].z.dtype).toBe('int32');
    expect(output.b[1].a.dtype).toBe('bool');
    expect(output.a.arraySync()).toEqual([7, 8]);
    captured.dispose();
    disposeLeaves([output, example]);
  });

  test('accepts one tensor in two places, as example and as input', () => {
    const [x, y] = [tf.scalar(3), tf.scalar(4)];
    const compute = ([a, b]: readonly Tensor[]): Tensor => tf.sub(a!, b!);
    expect(resultsOf(compute, [y, x], [x, x])).toEqual([['', 1]]);
    expect(resultsOf(compute, [x, x], [y, x])).toEqual([['', 0]]);
  });

  test('returns an input, a constant and a repeated value as separate results', () => {
    const x = tf.tensor1d([1, 2]);
    const compute = (input: Tensor): Tensor[] => {
      const twice = tf.mul(input, 2);
      return [input, tf.tensor1d([5, 6]), twice, twice];
    };
    const captured = capture(engine, compute, options);
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

  test('may use no input, have no input, or return nothing', () => {
    const x = tf.scalar(1);
    expect(resultsOf(() => tf.scalar(2), x)).toEqual([['', 2]]);
    expect(resultsOf(() => [tf.scalar(2)], {})).toEqual([['[0]', 2]]);
    expect(resultsOf(() => ({}), { x })).toEqual([]);
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
    const captured = capture(engine, compute, options);
    tf.dispose(captured.run(x));
    tf.dispose([made, pending, mask]);
    const result = captured.run(x);
    expect(result.arraySync()).toEqual([2 + 10 + 2, 3]);
    captured.dispose();
    tf.dispose([x, result]);
  });

  test('distinguishes an input from the tensor that was its example', () => {
    const [x, y] = [tf.scalar(1), tf.scalar(2)];
    const compute = ([a, b]: readonly Tensor[]): Tensor[] => [tf.sub(a!, x), tf.sub(b!, y)];
    expect(resultsOf(compute, [tf.scalar(5), tf.scalar(7)], [x, y])).toEqual([
      ['[0]', 4],
      ['[1]', 5],
    ]);
  });

  test('can read constants back in the middle', () => {
    const x = tf.scalar(2);
    const compute = (input: Tensor): Tensor => {
      const table = tf.mul(tf.tensor1d([3, 4, 5]), 2);
      const order = tf.tensor1d([2, 0], 'int32');
      return tf.mul(tf.gather(table, order), tf.mul(input, table.dataSync()[1]!));
    };
    expect(resultsOf(compute, x)).toEqual([['', [160, 96]]]);
  });

  test('is loaded from a temporary folder that is removed when loading fails', () => {
    const backend = nativeBackendOf(tf)!;
    const type = { shape: [], dtype: 'float32' } as const;
    const node = {
      op: 'NoSuchOperation',
      inputs: [],
      attributes: {},
      outputs: [type],
      constant: null,
    };
    const broken = savedModelOf({ inputs: [], results: [{ node, output: 0 }] });
    expect(() => loadGraph(backend, broken)).toThrow(/does not load a captured graph/);
    expect(graphFolders()).toEqual([]);
  });
});
