/**
 * The runtimes that converted models are checked with, installed once into the user's cache: onnxruntime-node by
 * npm, Python TensorFlow by pip into a virtual environment.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../../../infra/library/package-root.js';
import type { ModelInput } from '../../../fixtures/serving/converted-case.js';

const ONNX_RUNTIME = '1.30.0';
const TENSORFLOW = '2.21.0';
const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'qianmo');
const SIDE = new URL('test/bench/serving/interchange/saved_model_side.py', packageRoot).pathname;
const OUTPUT_BYTE_COUNT_MAX = 64 * 1024 * 1024;

export interface ConvertedFolder {
  readonly folder: string;
  readonly inputs: readonly ModelInput[];
}

export interface FoundOutputs {
  readonly score: readonly number[];
  readonly expected: readonly number[];
}

export interface RuntimeOutputs {
  readonly version: string;
  readonly found: readonly FoundOutputs[];
}

/** The part of onnxruntime-node that is used. */
interface OnnxRuntime {
  readonly Tensor: new (
    type: 'int32' | 'float32',
    values: Int32Array | Float32Array,
    shape: readonly number[],
  ) => object;
  readonly InferenceSession: {
    create(path: string, options: object): Promise<OnnxSession>;
  };
}
interface OnnxSession {
  run(feeds: Readonly<Record<string, object>>): Promise<Record<string, { data: Float32Array }>>;
  release(): Promise<void>;
}

/** Done once: the file `complete` is written last. */
function installed(name: string, install: (folder: string) => void): string {
  const folder = join(CACHE, name);
  const complete = join(folder, 'complete');
  if (existsSync(complete)) return folder;
  process.stderr.write(`installing ${name} into ${folder}\n`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  install(folder);
  writeFileSync(complete, '');
  return folder;
}

function run(command: string, ...words: string[]): void {
  execFileSync(command, words, { stdio: ['ignore', 'ignore', 'inherit'] });
}

export const ONNX_RUNTIME_NAME = `onnxruntime-node ${ONNX_RUNTIME}`;

export function onnxRuntime(): OnnxRuntime {
  const name = `onnxruntime-node-${ONNX_RUNTIME}`;
  const folder = installed(name, (into) => {
    // Its script would download a build for GPUs; the one for CPUs is in the package.
    run(
      ...(['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund'] as const),
      ...['--prefix', into, `onnxruntime-node@${ONNX_RUNTIME}`],
    );
  });
  // A package without types here; the interface above is the part that is used.
  return createRequire(join(folder, 'node_modules', 'x'))('onnxruntime-node') as OnnxRuntime;
}

export async function onnxOutputs(cases: readonly ConvertedFolder[]): Promise<RuntimeOutputs> {
  const runtime = onnxRuntime();
  const found: FoundOutputs[] = [];
  for (const { folder: model, inputs } of cases) {
    const session = await runtime.InferenceSession.create(join(model, 'model.onnx'), {
      logSeverityLevel: 3,
    });
    const feeds = inputs.map(({ name, type, values, shape }) => {
      const of = type === 'int32' ? Int32Array : Float32Array;
      return [name, new runtime.Tensor(type, of.from(values), shape)] as const;
    });
    const outputs = await session.run(Object.fromEntries(feeds));
    const listOf = (name: string): number[] => [...(outputs[name]?.data ?? [])];
    found.push({ score: listOf('score'), expected: listOf('expected') });
    await session.release();
  }
  return { version: ONNX_RUNTIME_NAME, found };
}

const SideSchema = z.strictObject({
  version: z.string(),
  found: z.array(z.strictObject({ score: z.array(z.number()), expected: z.array(z.number()) })),
});

/** The Python that has TensorFlow. */
export function tensorflowPython(): string {
  const folder = installed(`python-tensorflow-${TENSORFLOW}`, (into) => {
    run('python3', '-m', 'venv', into);
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
    run(join(into, 'bin', 'python'), ...install, `tensorflow-cpu==${TENSORFLOW}`);
  });
  return join(folder, 'bin', 'python');
}

export function tensorflowOutputs(cases: readonly ConvertedFolder[]): RuntimeOutputs {
  const printed = execFileSync(tensorflowPython(), [SIDE], {
    input: JSON.stringify(cases),
    encoding: 'utf8',
    maxBuffer: OUTPUT_BYTE_COUNT_MAX,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const { version, found } = SideSchema.parse(JSON.parse(printed));
  return { version: `Python TensorFlow ${version}`, found };
}
