/**
 * Loads a TensorFlow.js backend and gives the few operations whose stock form is slow or missing:
 * gather, segment sum and ReLU with lean gradients. The only file that names backend packages.
 */

import type { BackendChoice } from './backend-choice.js';
import { createRequire } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';
import { QianmoError } from '../../../shared/base/errors.js';
import { nativeKernels, portableKernels, type Kernels } from './kernels.js';
import { registerLeanGradients } from './lean-gradients.js';
import './removed-node-functions.mjs';

export interface Engine {
  readonly tf: typeof tfjs;
  readonly kernels: Kernels;
  /** `tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU` */
  readonly description: string;
}

const require = createRequire(import.meta.url);
const NATIVE_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;
const CURE = 'qianmo setup installs native TensorFlow; qianmo check says what is missing';

/** Why jobs run on a slow portable backend, and how to get the native one. */
export interface PortableFallback {
  readonly refusals: string[];
  readonly cure: string;
}

/**
 * @throws QianmoError of kind `environment` when the chosen backend does not load; `auto` falls
 *   back instead and tells `onPortable` why.
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

function nativeEngine(packageName: string): Engine {
  // The union package and the addon share one tfjs-core, so its types are those of both.
  const tf = require(packageName) as typeof tfjs;
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
 * Runs `compute` and frees every tensor made on the way. Unlike the result of `tf.tidy`, which is
 * searched for tensors property by property, this one may hold large typed arrays (and no tensor).
 */
export function withoutTensorsLeft<Result>({ tf }: Engine, compute: () => Result): Result {
  const results: Result[] = [];
  tf.tidy(() => {
    results.push(compute());
  });
  // Filled by the line above, or it threw.
  return results[0] as Result;
}
