/**
 * Loads a TensorFlow.js backend, with kernels for the few operations that the library lacks or runs
 * slowly: gather, segment sum and ReLU with lean gradients. The only file that names backend packages.
 */

import { createRequire, Module } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';
import { z } from 'zod';
import type { BackendChoice } from './native-backend.js';
import { type QianmoError, errorOf } from '../../../shared/base/errors.js';
import { nativeKernels, portableKernels, type Kernels, registerLeanGradients } from './kernels.js';
import { loadedPlugins } from '../../../shared/plugins/load-plugins.js';
import { dirname, join } from 'node:path';

/** Stand-ins with no more than the library extends and calls while it loads. */
const UNUSED: Readonly<Record<string, object>> = {
  '@tensorflow/tfjs-layers': {
    CustomCallback: Object,
    registerCallbackConstructor: () => undefined,
  },
  '@tensorflow/tfjs-converter': {},
  '@tensorflow/tfjs-data': {},
  '@tensorflow/tfjs-backend-cpu': {},
  '@tensorflow/tfjs-backend-webgl': {},
};

const ManifestSchema = z.looseObject({
  binary: z.looseObject({
    module_name: z.string(),
    module_path: z.string(),
    napi_versions: z.array(z.int()),
  }),
});

/** Calls `load` while whatever `packageName` requires of these parts is a stand-in, unless it is loaded already. */
function withoutUnusedParts<Loaded>(
  require: NodeJS.Require,
  packageName: string,
  load: () => Loaded,
): Loaded {
  const requireOfPackage = createRequire(require.resolve(packageName));
  const requireOfLibrary = createRequire(requireOfPackage.resolve('@tensorflow/tfjs'));
  const added = [
    ...Object.entries(UNUSED).map(([name, exports]) => standIn(requireOfLibrary, name, exports)),
    standIn(requireOfPackage, '@mapbox/node-pre-gyp', {
      find: (manifest: string) => addonOf(manifest, require(manifest)),
    }),
  ];
  try {
    return load();
  } finally {
    // Whoever asks for such a part later is given the real one.
    for (const path of added) if (path !== null) Reflect.deleteProperty(require.cache, path);
  }
}

/** Returns the path of the part; null if it was loaded before. */
function standIn(require: NodeJS.Require, name: string, exports: object): string | null {
  const path = require.resolve(name);
  if (require.cache[path] !== undefined) return null;
  const module = new Module(path);
  Object.assign(module, { filename: path, loaded: true, exports });
  require.cache[path] = module;
  return path;
}

/** The file of the addon, which is built for the newest interface that the package knows. */
function addonOf(manifestPath: string, manifest: unknown): string {
  const { module_name, module_path, napi_versions } = ManifestSchema.parse(manifest).binary;
  const folder = module_path.replace('{napi_build_version}', `${Math.max(...napi_versions)}`);
  return join(dirname(manifestPath), folder, `${module_name}.node`);
}

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
  return errorOf('environment', `${what} did not load`, {
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
