// A graph that one process keeps runs in the next one, with the same bits and without being recorded.

import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type * as tfjs from '@tensorflow/tfjs';
import { beforeEach, expect, test } from 'vitest';
import { cacheFolder } from '../../../shared/base/cache-folder.js';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { graphShelvesIn } from '../../../worker/compute/engine/capture/graph-shelf.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

type Input = { readonly x: tfjs.Tensor2D };
type Output = { readonly b: tfjs.Tensor; readonly a: readonly tfjs.Tensor[] };

const engine = await loadEngine('tensorflow', () => undefined);
const folder = openedForEach(temporaryFolder);
let recordings = 0;

beforeEach(() => {
  recordings = 0;
});

function subject({ x }: Input): Output {
  const { tf } = engine;
  recordings += 1;
  return { b: tf.sum(tf.exp(x)), a: [tf.matMul(x, x), tf.sin(x)] };
}

/** The results of one process's capture. */
function results(width: number) {
  const { tf } = engine;
  const shelf = graphShelvesIn(folder.path, 'maker')('computation');
  return tf.tidy(() => {
    const x = tf.tensor2d(
      Array.from({ length: width * width }, (_, index) => Math.sin(index)),
      [width, width],
    );
    const captured = capture(engine, subject, { name: 'subject', shelf });
    const { a, b } = captured.run({ x });
    captured.dispose();
    return [...a, b].map((tensor) => [...tensor.dataSync()]);
  });
}

test('a kept graph gives the same bits and is not recorded again', () => {
  const first = results(5);
  expect(recordings).toBe(1);
  expect(results(5)).toEqual(first);
  expect(recordings).toBe(1);
});

test('a damaged graph is recorded again', () => {
  const first = results(5);
  const [name = ''] = readdirSync(folder.path);
  const bytes = readFileSync(join(folder.path, name));
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  writeFileSync(join(folder.path, name), bytes);
  expect(results(5)).toEqual(first);
  expect(recordings).toBe(2);
});

test('a cache is for this user alone', () => {
  const environment = { XDG_CACHE_HOME: folder.path };
  const made = cacheFolder(environment, 'graphs');
  expect(made).toBe(join(folder.path, 'qianmo', 'graphs'));
  chmodSync(made ?? '', 0o777);
  expect(cacheFolder(environment, 'graphs')).toBeNull();
  expect(cacheFolder({}, 'graphs')).toBeNull();
});
