// One graph per shape with least-recently-used eviction; portable backends; saved graphs.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type * as tfjs from '@tensorflow/tfjs';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { captureByShape } from '../../../worker/compute/engine/capture/capture-by-shape.js';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { saveGraph } from '../../../worker/compute/engine/capture/compile-graph.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import { leftoversOf } from '../../fixtures/compute/capture-soak.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

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

  test('distinguishes structures and element types', () => {
    const subject = captureByShape(engine, (input: { readonly [name: string]: Tensor }) => input, {
      name: 'same',
      shapeCountMax: 10,
    });
    tf.tidy(() => {
      const [float, integer] = [tf.tensor1d([1]), tf.tensor1d([1], 'int32')];
      for (const input of [{ a: float }, { b: float }, { a: integer }, { a: float, b: float }])
        expect(Object.keys(subject.run(input))).toEqual(Object.keys(input));
      subject.run({ a: tf.tensor1d([2]) });
    });
    expect(subject.statistics.captureCount).toBe(4);
    subject.dispose();
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

  test('inlines its graph into a captured function that calls it', () => {
    const subject = captureByShape(engine, total, { name: 'total', shapeCountMax: 1 });
    const x = tf.tensor1d([1, 2]);
    const outer = capture(engine, (at: Tensor) => tf.square(subject.run([at])), x as Tensor, {
      name: 'outer',
    });
    expect(subject.statistics.captureCount).toBe(0);
    expect(tf.tidy(() => outer.run(tf.tensor1d([2, 3])).arraySync())).toBe(25);
    outer.dispose();
    subject.dispose();
    x.dispose();
  });
});

test('a saved graph is a model that any TensorFlow loads by its signature', async () => {
  const folder = await temporaryFolder();
  const path = join(folder.path, 'model');
  const input = { x: tf.tensor2d([[1, 2]]), w: [tf.tensor2d([[3], [4]])] };
  const compute = ({ x, w }: typeof input): { y: Tensor } => ({ y: tf.matMul(x, w[0]!) });
  const captured = capture(engine, compute, input, { name: 'product' });
  const { graph, inputPaths, resultPaths } = captured;
  const names = { inputs: inputPaths, results: resultPaths };
  saveGraph(graph!, names, path);
  captured.dispose();
  expect(readdirSync(path).sort()).toEqual(['saved_model.pb', 'variables']);
  const { node } = tf as typeof tfjs & {
    node: {
      loadSavedModel(path: string, tags: string[], signature: string): Promise<tfjs.InferenceModel>;
    };
  };
  const model = await node.loadSavedModel(path, ['serve'], 'serving_default');
  expect(model.inputs.map(({ name }) => name)).toEqual(['input_0', 'input_1']);
  const output = model.predict({ 'w[0]': input.w[0]!, x: input.x }, {}) as tfjs.NamedTensorMap;
  expect(output.y!.arraySync()).toEqual([[11]]);
  await folder.remove();
});
