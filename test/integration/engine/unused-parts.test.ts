/** The library without its unused parts computes and differentiates as the whole one, in processes of their own. */

import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';

const AbilitiesSchema = z.strictObject({
  kernels: z.array(z.string()),
  gradients: z.array(z.string()),
  methods: z.array(z.string()),
  loadedParts: z.array(z.string()),
});

const TELL = `
  const tellAbilities = (tf, files) => {
    const kernels = tf.getKernelsForBackend('tensorflow').map(({ kernelName }) => kernelName).sort();
    const names = [...kernels, ...Object.values(tf).filter((value) => typeof value === 'string')];
    console.log(JSON.stringify({
      kernels,
      gradients: [...new Set(names)].filter((name) => tf.getGradient(name) !== undefined).sort(),
      methods: Object.getOwnPropertyNames(tf.Tensor.prototype).sort(),
      loadedParts: ['tfjs-layers', 'tfjs-data', 'tfjs-converter', 'tfjs-backend-webgl', 'node-pre-gyp'].filter(
        (part) => files.some((file) => file.includes('/' + part + '/')),
      ),
    }));
  };
`;
const ENGINE = new URL('dist/worker/compute/engine/load-engine.js', packageRoot).href;

function outputOf(script: string): string {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', script],
    {
      encoding: 'utf8',
      cwd: packageRoot.pathname,
      env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '3' },
    },
  );
  expect(status, stderr).toBe(0);
  return stdout;
}

it('leaves out parts of the library, and no kernel, gradient or method of tensors', () => {
  const native = createRequire(import.meta.url).resolve('@tensorflow/tfjs-node-gpu');
  const loadWhole = `
    import { createRequire } from 'node:module';
    const require = createRequire(${JSON.stringify(native)});
    tellAbilities(require(${JSON.stringify(native)}), Object.keys(require.cache));`;
  const loadLean = `
    import { createRequire } from 'node:module';
    const { loadEngine } = await import(${JSON.stringify(ENGINE)});
    const { tf } = await loadEngine('tensorflow', () => undefined);
    tellAbilities(tf, Object.keys(createRequire(import.meta.url).cache));
    const portable = await loadEngine('cpu', () => undefined);
    const ones = (...shape) => portable.tf.ones(shape);
    console.log(portable.description, portable.tf.matMul(ones(2, 3), ones(3, 2)).dataSync().join());`;
  const whole = AbilitiesSchema.parse(JSON.parse(outputOf(TELL + loadWhole)));
  const [abilities = '', portable] = outputOf(TELL + loadLean).split('\n');
  const lean = AbilitiesSchema.parse(JSON.parse(abilities));
  expect(whole.loadedParts).toHaveLength(5);
  expect(whole.gradients.length).toBeGreaterThan(90);
  expect(lean).toEqual({ ...whole, loadedParts: [] });
  // A portable backend is left to whoever asks for one later.
  expect(portable).toMatch(/^tfjs \S+, cpu 3,3,3,3$/);
});
