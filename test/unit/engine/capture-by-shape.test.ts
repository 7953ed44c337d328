// One graph per shape with least-recently-used eviction; portable backends; saved graphs.

import type * as tfjs from '@tensorflow/tfjs';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { captureByShape } from '../../../worker/compute/engine/capture/capture-by-shape.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import { leftoversOf } from '../../fixtures/compute/capture-soak.js';

type Tensor = tfjs.Tensor;

let engine: Engine;
let tf: typeof tfjs;
beforeAll(async () => {
  engine = await loadEngine('tensorflow', () => undefined);
  tf = engine.tf;
});

describe('capture by shape', () => {
  let callCount = 0;
  const total = ([x]: readonly Tensor[]): Tensor => {
    callCount += 1;
    return tf.sum(x!);
  };
  const runOf = (subject: { run(input: readonly Tensor[]): Tensor }, values: number[]): unknown =>
    tf.tidy(() => subject.run([tf.tensor1d(values)]).arraySync());

  afterEach(() => {
    expect(leftoversOf(engine)).toMatchObject({ handleCount: 0, graphCount: 0, folderCount: 0 });
  });

  test('records each shape once and frees the least recently used graph', () => {
    callCount = 0;
    const subject = captureByShape(engine, total, { name: 'total', shapeCountMax: 2 });
    expect([runOf(subject, [1]), runOf(subject, [1, 2]), runOf(subject, [3])]).toEqual([1, 3, 3]);
    expect(subject.statistics).toMatchObject({ callCount: 3, captureCount: 2, evictionCount: 0 });
    // [1, 2] is the least recently used.
    expect(runOf(subject, [1, 2, 3])).toBe(6);
    expect(subject.statistics).toMatchObject({ evictionCount: 1, shapeCount: 2 });
    expect(leftoversOf(engine).graphCount).toBe(2);
    expect(runOf(subject, [4])).toBe(4);
    expect(callCount).toBe(3);
    expect(runOf(subject, [5, 6])).toBe(11);
    expect(callCount).toBe(4);
    expect(subject.statistics).toMatchObject({ callCount: 6, captureCount: 4, evictionCount: 2 });
    subject.dispose();
    expect(() => runOf(subject, [1])).toThrow(/total was disposed/);
  });

  test('keeps nothing of a refused capture, and refuses a bound below one shape', () => {
    const subject = captureByShape(
      engine,
      ([x]: readonly Tensor[]) => tf.scalar(x!.dataSync()[0]!),
      {
        name: 'reader',
        shapeCountMax: 1,
      },
    );
    expect(() => runOf(subject, [1])).toThrow(/read back/);
    expect(subject.statistics).toMatchObject({ captureCount: 0, shapeCount: 0 });
    subject.dispose();
    expect(() => captureByShape(engine, total, { name: 'none', shapeCountMax: 0 })).toThrow(
      /shapeCountMax is 0/,
    );
  });
});
