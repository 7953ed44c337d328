/**
 * Loads a TensorFlow.js backend, with kernels for the few operations that the library lacks or runs
 * slowly: gather, segment sum and ReLU with lean gradients. The only file that names backend packages.
 */

import type { BackendChoice } from './backend-choice.js';
import { createRequire } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';
import { QianmoError } from '../../../shared/base/errors.js';
import { nativeKernels, portableKernels, type Kernels } from './kernels.js';
import { registerLeanGradients } from './lean-gradients.js';
import { loadedPlugins } from '../../../shared/plugins/load-plugins.js';
import './removed-node-functions.mjs';
import { withoutUnusedParts } from './unused-parts.js';

export interface Engine {
  readonly tf: typeof tfjs;
  readonly kernels: Kernels;
  /** `tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU` */
  readonly description: string;
}

const require = createRequire(import.meta.url);
const NATIVE_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;
const CURE = 'qianmo setup installs native TensorFlow; qianmo check says what is missing';

/** Why a slow portable backend is used, and how to get the native one. */
export interface PortableFallback {
  readonly refusals: string[];
  readonly cure: string;
}

/**
 * @param onPortable called if `auto` falls back to a portable backend.
 * @throws QianmoError of kind `environment` if the chosen backend does not load.
 */
export async function loadEngine(
  choice: BackendChoice,
  onPortable: (fallback: PortableFallback) => void,
): Promise<Engine> {
  const refusals: string[] = [];
  if (choice === 'auto' || choice === 'tensorflow') {
    for (const name of NATIVE_PACKAGES) {
      try {
        return nativeEngine(name);
      } catch (error) {
        refusals.push(`${name}: ${firstLineOf(error)}`);
      }
    }
    if (choice === 'tensorflow') throw refused('native TensorFlow', refusals);
    onPortable({ refusals: [...refusals], cure: CURE });
  }
  const portable = choice === 'auto' ? ['wasm', 'cpu'] : [choice];
  for (const name of portable) {
    try {
      return await portableEngine(name);
    } catch (error) {
      refusals.push(`${name}: ${firstLineOf(error)}`);
    }
  }
  throw refused(portable.join(' and '), refusals);
}

/** Whether this process has loaded a native library. */
export function isNativeLoaded(): boolean {
  return Object.keys(require.cache).some((path) =>
    NATIVE_PACKAGES.some((name) => path.includes(`/${name}/`)),
  );
}

/** Loads the library of `loadEngine` before it is called. A failure is left to that call to tell. */
export function loadNativeAhead(): void {
  for (const name of NATIVE_PACKAGES) {
    try {
      nativeLibrary(name);
      return;
    } catch {
      // The other one is tried.
    }
  }
}

/** A plugin may call whatever the library has. */
function nativeLibrary(packageName: string): typeof tfjs {
  // The package tfjs and the addon share one tfjs-core, hence its types.
  const load = () => require(packageName) as typeof tfjs;
  return loadedPlugins().length > 0 ? load() : withoutUnusedParts(require, packageName, load);
}

function nativeEngine(packageName: string): Engine {
  const tf = nativeLibrary(packageName);
  const kernels = nativeKernels(tf);
  registerLeanGradients(tf);
  const { version } = require(`${packageName}/package.json`) as { version: string };
  return {
    tf,
    kernels,
    description: `${packageName.split('/')[1] ?? packageName} ${version}, ${kernels.device}`,
  };
}

async function portableEngine(name: string): Promise<Engine> {
  const tf = require('@tensorflow/tfjs') as typeof tfjs;
  // An attempt at a native backend loads the library without this part.
  createRequire(require.resolve('@tensorflow/tfjs'))('@tensorflow/tfjs-backend-cpu');
  if (name === 'wasm') require('@tensorflow/tfjs-backend-wasm');
  if (!(await tf.setBackend(name))) throw new Error(`the backend ${name} does not start`);
  await tf.ready();
  registerLeanGradients(tf);
  return { tf, kernels: portableKernels(tf), description: `tfjs ${tf.version_core}, ${name}` };
}

function refused(what: string, refusals: readonly string[]): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: `${what} did not load`,
    found: refusals.join('; '),
    cure: CURE,
  });
}

function firstLineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n')[0] ?? text;
}

/**
 * Runs `compute` and frees every tensor that it made. The result must not contain tensors; it may hold
 * large typed arrays, which `tf.tidy` would search for tensors property by property.
 */
export function withoutTensorsLeft<Result>({ tf }: Engine, compute: () => Result): Result {
  const results: Result[] = [];
  tf.tidy(() => {
    results.push(compute());
  });
  // Filled, unless `compute` threw.
  return results[0] as Result;
}
