/**
 * Which of TensorFlow's graph optimizers run on a captured graph, according to the library's own
 * log.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { recordGraph } from '../../../worker/compute/engine/capture/record-graph.js';
import { savedModelOf } from '../../../worker/compute/engine/capture/saved-model.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { nativeBackendOf } from '../../../worker/compute/engine/native-backend.js';
import { rewriteGraph } from '../../../worker/compute/engine/rewrite/rewrite-graph.js';

const RUN_SAVED_GRAPH = `
  const tf = require(process.argv[1]);
  const { binding } = tf.backend();
  const ids = tf.backend().getInputTensorIds([tf.ones([2, 3])]);
  const model = binding.loadSavedModel(process.argv[2], 'serve');
  binding.runSavedModel(model, ids, 'input_0:0', 'result_0:0');
`;

/** Names of the optimizers that ran, from the log of a child process. */
function optimizersThatRun(
  folder: string,
  environment: Readonly<Record<string, string | undefined>> = {},
): string[] {
  const addon = createRequire(import.meta.url).resolve('@tensorflow/tfjs-node-gpu');
  const { status, stderr } = spawnSync(process.execPath, ['-e', RUN_SAVED_GRAPH, addon, folder], {
    encoding: 'utf8',
    env: {
      ...process.env,
      CUDA_VISIBLE_DEVICES: '',
      TF_CPP_MIN_LOG_LEVEL: '0',
      TF_CPP_VMODULE: 'meta_optimizer=1',
      ...environment,
    },
  });
  expect(status, stderr).toBe(0);
  return [...stderr.matchAll(/\] (\S+): Graph size after/g)].map(([, name]) => name ?? '');
}

it('runs only the optimizers that results depend on, and none for portable jobs', async () => {
  const engine = await loadEngine('tensorflow', () => undefined);
  const { tf } = engine;
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-session-'));
  const example = tf.ones([2, 3]);
  const compute = (x: typeof example) => tf.sum(tf.mul(tf.sigmoid(x), tf.add(x, tf.tanh(x))), 1);
  onTestFinished(() => {
    tf.dispose(example);
    rmSync(folder, { recursive: true, force: true });
  });
  const { graph } = recordGraph(tf, nativeBackendOf(tf)!, compute, example);
  writeFileSync(join(folder, 'saved_model.pb'), savedModelOf(rewriteGraph(graph)).bytes);
  expect(new Set(optimizersThatRun(folder))).toEqual(
    new Set(['constant_folding', 'arithmetic_optimizer', 'common_subgraph_elimination']),
  );
  expect(optimizersThatRun(folder, { QIANMO_PORTABLE: '1' })).toEqual([]);
});
