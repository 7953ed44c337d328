// Which CUDA libraries TensorFlow would find where the setup links them.

import { existsSync } from 'node:fs';
import { mkdir, readlink, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  areCudaLibrariesCached,
  linkCudaLibraries,
  resolveCudaLibraries,
} from '../../../infra/bootstrap/cuda-libraries.mjs';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

/** The libraries in the layout of the wheels, by folder of `nvidia/`. */
const IN_WHEELS: Readonly<Record<string, readonly string[]>> = {
  cublas: ['libcublas.so.12', 'libcublasLt.so.12'],
  cuda_cupti: ['libcupti.so.12'],
  cuda_nvrtc: ['libnvrtc-builtins.so.12.9', 'libnvrtc.so.12'],
  cuda_runtime: ['libcudart.so.12'],
  cudnn: [
    'libcudnn.so.9',
    'libcudnn_adv.so.9',
    'libcudnn_cnn.so.9',
    'libcudnn_engines_precompiled.so.9',
    'libcudnn_engines_runtime_compiled.so.9',
    'libcudnn_graph.so.9',
    'libcudnn_heuristic.so.9',
    'libcudnn_ops.so.9',
  ],
  cufft: ['libcufft.so.11'],
  cusolver: ['libcusolver.so.11'],
  cusparse: ['libcusparse.so.12'],
  nccl: ['libnccl.so.2'],
  nvjitlink: ['libnvJitLink.so.12'],
};
const WHEEL_NAME_BY_FOLDER: Readonly<Record<string, string>> = {
  cublas: 'nvidia-cublas-cu12-12.9.3.13',
  cuda_cupti: 'nvidia-cuda-cupti-cu12-12.9.79',
  cuda_nvrtc: 'nvidia-cuda-nvrtc-cu12-12.9.86',
  cuda_runtime: 'nvidia-cuda-runtime-cu12-12.9.79',
  cudnn: 'nvidia-cudnn-cu12-9.28.0.42',
  cufft: 'nvidia-cufft-cu12-11.4.1.4',
  cusolver: 'nvidia-cusolver-cu12-11.7.5.82',
  cusparse: 'nvidia-cusparse-cu12-12.5.10.65',
  nccl: 'nvidia-nccl-cu12-2.32.3',
  nvjitlink: 'nvidia-nvjitlink-cu12-12.9.86',
};

const lacking = (nvidia: string, isThere?: (path: string) => boolean): string[] =>
  resolveCudaLibraries(nvidia, isThere)
    .filter(({ path }) => path === null)
    .map(({ soname }) => soname);

const folder = openedForEach(temporaryFolder);
let nvidia: string;
beforeEach(() => {
  nvidia = join(folder.path, 'deps', 'nvidia');
  vi.stubEnv('XDG_CACHE_HOME', folder.path);
});
afterEach(() => vi.unstubAllEnvs());

async function fillCache(): Promise<void> {
  for (const [part, names] of Object.entries(IN_WHEELS)) {
    const wheel = `${WHEEL_NAME_BY_FOLDER[part] ?? ''}-linux-x64`;
    const libraries = join(folder.path, 'qianmo', wheel, 'nvidia', part, 'lib');
    await mkdir(libraries, { recursive: true });
    for (const name of names) await writeFile(join(libraries, name), part);
  }
}

test('TensorFlow finds each library where it is linked', async () => {
  await fillCache();
  linkCudaLibraries(nvidia);
  expect(lacking(nvidia)).toEqual([]);
  const second = join(nvidia, 'cuda_runtime', 'lib', 'libcusolver.so.11');
  expect(await readlink(second)).toContain('nvidia-cusolver-cu12');
  // The RUNPATH of libcusolver goes up with `..`, so the folders must be real.
  expect(existsSync(join(nvidia, 'cuda_runtime', 'lib', '..', '..', 'cusparse', 'lib'))).toBe(true);
});

test('an emptied cache is noticed, and so is a missing version', async () => {
  await fillCache();
  expect(areCudaLibrariesCached()).toBe(true);
  linkCudaLibraries(nvidia);
  const cudnn = `${WHEEL_NAME_BY_FOLDER['cudnn'] ?? ''}-linux-x64`;
  await rm(join(folder.path, 'qianmo', cudnn), { recursive: true });
  expect(areCudaLibrariesCached()).toBe(false);
  expect(lacking(nvidia).sort()).toEqual(IN_WHEELS['cudnn']);
});
