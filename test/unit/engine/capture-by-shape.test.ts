// One graph per shape with least-recently-used eviction.

import type * as tfjs from '@tensorflow/tfjs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { leftoversOf } from '../../fixtures/compute/capture-soak.js';

type Tensor = tfjs.Tensor;

const engine = await loadEngine('tensorflow', () => undefined);
const { tf } = engine;

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
