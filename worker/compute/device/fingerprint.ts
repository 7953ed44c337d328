/**
 * The numerical fingerprint of this process: its engine, its environment, and a probe, which is a small fixed computation
 * whose bits tell machines apart. A job of another kind of machine is refused.
 */

import { createHash } from 'node:crypto';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import {
  type Gpu,
  type DeviceReport,
  numericsText,
  type Numerics,
} from '../../../shared/events/device-report.js';
import type { GraphShelves, GraphShelf } from '../engine/capture/graph-shelf.js';
import { withoutTensorsLeft, type Engine } from '../engine/load-engine.js';
import { nativeBackendOf } from '../engine/native-backend.js';
import { INSTRUCTION_SET_MAX } from './numerical-environment.js';
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import type * as tfjs from '@tensorflow/tfjs';
import { capture } from '../engine/capture/capture.js';
import { errorOf } from '../../../shared/base/errors.js';

const OF_CPU = /^(libtensorflow(_cc|_framework)?\.so[.\d]*|tfjs_binding\.node)$/;
const OF_GPU = /^lib(cudart|cublas|cublasLt|cudnn\w*)\.so[.\d]*$/;
/**
 * The beginning of a library holds its build id, its symbols and their hashes, which differ between any
 * two builds. The whole file has up to a gigabyte.
 */
const READ_BYTE_COUNT_MAX = 2 ** 20;
const BUILD_DIGEST_LENGTH = 12;

/** In order of file names. Empty where the kernel lists no mapped files. */
function libraryBuilds(usesGpu: boolean): Numerics['builds'] {
  const isComputing = (path: string): boolean =>
    OF_CPU.test(basename(path)) || (usesGpu && OF_GPU.test(basename(path)));
  const paths = new Set(mappedFiles().filter(isComputing));
  return [...paths]
    .map((path) => ({ file: basename(path), digest: digestOf(path) }))
    .sort((a, b) => (a.file < b.file ? -1 : 1));
}

function mappedFiles(): string[] {
  try {
    return readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .flatMap((line) => /\s(\/.*)$/.exec(line)?.[1] ?? []);
  } catch {
    return [];
  }
}

/** The beginning of a digest of the file's size and its first mebibyte. */
function digestOf(path: string): string {
  const hash = createHash('sha256');
  let descriptor: number | null = null;
  try {
    descriptor = openSync(path, 'r');
    const bytes = Buffer.alloc(READ_BYTE_COUNT_MAX);
    const byteCount = readSync(descriptor, bytes, 0, bytes.length, 0);
    hash.update(String(fstatSync(descriptor).size)).update(bytes.subarray(0, byteCount));
  } catch {
    // The file was replaced while it was in use.
    return 'unknown';
  } finally {
    if (descriptor !== null) closeSync(descriptor);
  }
  return hash.digest('hex').slice(0, BUILD_DIGEST_LENGTH);
}

/** From the widest down: the processor's flags that oneDNN and TensorFlow look for together. */
const INSTRUCTION_SETS: readonly { readonly name: string; readonly flags: readonly string[] }[] = [
  { name: 'avx512', flags: ['avx512f', 'avx512bw', 'avx512vl', 'avx512dq'] },
  { name: 'avx2', flags: ['avx2', 'fma'] },
  { name: 'avx', flags: ['avx'] },
  { name: 'sse4', flags: ['sse4_2'] },
  { name: 'sve', flags: ['sve'] },
  { name: 'neon', flags: ['asimd'] },
];
/** Features beyond the instruction set for which libraries have kernels of their own. */
const FEATURES_BY_SET: Readonly<Record<string, RegExp>> = {
  avx512: /^(sse4_2|avx|avx2|fma|avx_vnni|avx512\w*|amx_\w+)$/,
  avx2: /^(sse4_2|avx|avx2|fma|avx_vnni)$/,
  /** The instruction set of every machine that computes portable jobs. */
  portable: /^(sse4_2|avx|avx2|fma)$/,
  avx: /^(sse4_2|avx)$/,
  sse4: /^sse4_2$/,
  sve: /^(asimd|sve2?|bf16)$/,
  neon: /^(asimd|bf16)$/,
};
const HASH_LENGTH = 8;

interface Surroundings {
  /** The environment of this process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The text of `/proc/cpuinfo`. */
  readonly cpuinfo: string;
  /** The GPU that this process sees. */
  readonly gpu: Gpu | null;
  readonly shelves: GraphShelves | null;
}

export function numericsOf(engine: Engine, surroundings: Surroundings): Numerics {
  const backend = nativeBackendOf(engine.tf);
  const probe = numericalProbe(engine, surroundings.shelves);
  if (backend === null)
    return {
      computesOn: engine.tf.getBackend() === 'wasm' ? 'wasm' : 'js',
      ...{ instructionSet: null, features: [] },
      // JavaScript's own functions round as its engine does.
      ...{ oneDnn: null, versions: [engine.description, `V8 ${process.versions.v8}`] },
      ...{ builds: [], gpu: null, probe },
    };
  const { environment, cpuinfo } = surroundings;
  const gpu = backend.isUsingGpuDevice ? surroundings.gpu : null;
  return {
    computesOn: backend.isUsingGpuDevice ? 'gpu' : 'cpu',
    ...instructionsOf(cpuinfo, isLimited(environment)),
    ...(gpu === null ? {} : { instructionSet: `sm${gpu.computeCapability.replace('.', '')}` }),
    oneDnn: switchOf(environment['TF_ENABLE_ONEDNN_OPTS']),
    versions: [engine.description],
    builds: libraryBuilds(backend.isUsingGpuDevice),
    gpu: gpu === null ? null : `${gpu.name}, driver ${gpu.driverVersion}`,
    probe,
  };
}

function switchOf(text: string | undefined): boolean | null {
  return text === undefined || text === '' ? null : text !== '0' && text.toLowerCase() !== 'false';
}

function isLimited(environment: Surroundings['environment']): boolean {
  return INSTRUCTION_SET_MAX.some((name) => environment[name] !== undefined);
}

/** The instruction set in effect, and the features of the processor that belong to it. */
function instructionsOf(
  cpuinfo: string,
  isPortable: boolean,
): Pick<Numerics, 'instructionSet' | 'features'> {
  const flags = new Set(
    (/^(?:flags|Features)\s*:(.*)$/m.exec(cpuinfo)?.[1] ?? '').trim().split(/\s+/),
  );
  const has = INSTRUCTION_SETS.filter((set) => set.flags.every((flag) => flags.has(flag)));
  const best = has.find(({ name }) => !isPortable || name !== 'avx512')?.name ?? 'unknown';
  const features = FEATURES_BY_SET[isPortable && best === 'avx2' ? 'portable' : best];
  return {
    instructionSet: best,
    features: [...flags].filter((flag) => features?.test(flag) === true).sort(),
  };
}

/** `cpu-avx512-onednn-3f9a1c22`, `gpu-sm90-onednn-3f9a1c22`, `wasm-3f9a1c22` */
export function fingerprintOf(numerics: Numerics): string {
  const { computesOn, instructionSet, oneDnn } = numerics;
  const hash = createHash('sha256').update(canonicalJson(numerics)).digest('hex');
  return [
    computesOn,
    ...(instructionSet === null ? [] : [instructionSet]),
    ...(oneDnn === true ? ['onednn'] : []),
    hash.slice(0, HASH_LENGTH),
  ].join('-');
}

type Tensors = readonly tfjs.Tensor[];

interface ProbePart {
  readonly name: string;
  /** Shapes of the inputs, whose values are fixed. */
  readonly shapes: readonly (readonly number[])[];
  readonly compute: (engine: Engine, inputs: Tensors) => Tensors;
}

const DIGEST_LENGTH = 16;

/**
 * The beginning of a digest of all results. A part that the device cannot compute counts with its name
 * alone.
 */
function numericalProbe(engine: Engine, shelves: GraphShelves | null): string {
  const hash = createHash('sha256');
  withoutTensorsLeft(engine, () => {
    // A graph costs more than what it computes here, so one graph has all parts.
    const shelf = shelves?.('the numerical probe') ?? null;
    const results =
      resultsOf(engine, PARTS, shelf) ?? PARTS.map((part) => resultsOf(engine, [part])?.[0]);
    for (const [index, { name }] of PARTS.entries()) {
      hash.update(name);
      for (const result of results[index] ?? []) hash.update(bytesOf(result));
    }
  });
  return hash.digest('hex').slice(0, DIGEST_LENGTH);
}

/** Returns the results of each part; null if the device cannot compute one of them. */
function resultsOf(
  engine: Engine,
  parts: readonly ProbePart[],
  shelf: GraphShelf | null = null,
): readonly Tensors[] | null {
  const inputs = parts.map(({ shapes }) =>
    shapes.map((shape, index) => fixed(engine, shape, index)),
  );
  const compute = (given: readonly Tensors[]): readonly Tensors[] =>
    parts.map((part, index) => part.compute(engine, given[index] ?? []));
  try {
    const name = 'the numerical probe';
    const captured = capture(engine, compute, { name, shelf });
    try {
      return captured.run(inputs);
    } finally {
      captured.dispose();
    }
  } catch {
    // A device without a deterministic kernel for an operation refuses it here as it does in a job.
    return null;
  }
}

function bytesOf(tensor: tfjs.Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.dataSync();
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Values in [-1, 1) with 24 random-looking bits, so that every product and sum is rounded. */
function fixed({ tf }: Engine, shape: readonly number[], seed: number): tfjs.Tensor {
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  let state = 0x9e3779b9 + seed;
  for (let index = 0; index < values.length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[index] = (state >>> 8) / 2 ** 23 - 1;
  }
  return tf.tensor(values, [...shape]);
}

function at(tensors: Tensors, index: number): tfjs.Tensor {
  const tensor = tensors[index];
  if (tensor === undefined) throw new Error(`the probe has no input ${index}`);
  return tensor;
}

/** Odd in every sense: no multiple of a vector width, and longer than a block. */
const ODD_LENGTH = 4_099;

const PARTS: readonly ProbePart[] = [
  {
    name: 'products',
    shapes: [
      [33, 300],
      [300, 129],
      [ODD_LENGTH, 17],
      [ODD_LENGTH, 24],
      [9, 2_048],
      [2_048, 48],
      [5, 33, 64],
      [5, 64, 31],
      [257, 64],
      [64, 1],
    ],
    compute: ({ tf }, inputs) => [
      tf.matMul(at(inputs, 0), at(inputs, 1)),
      tf.matMul(at(inputs, 2), at(inputs, 3), true, false),
      tf.matMul(at(inputs, 4), at(inputs, 5)),
      tf.matMul(at(inputs, 1), at(inputs, 0), true, true),
      tf.matMul(at(inputs, 6), at(inputs, 7)),
      tf.matMul(at(inputs, 6), at(inputs, 6), false, true),
      tf.matMul(at(inputs, 8), at(inputs, 9)),
    ],
  },
  {
    name: 'functions',
    shapes: [[ODD_LENGTH], [37, 101]],
    compute: ({ tf }, inputs) => {
      const x = tf.mul(at(inputs, 0), 8);
      const positive = tf.add(tf.abs(x), 0.001);
      // TensorFlow's optimizer makes products with approximated reciprocals of these.
      const byRoot = tf.div(x, tf.sqrt(tf.add(positive, 1)));
      const byConstants = tf.div(x, tf.range(1, ODD_LENGTH + 1));
      return [
        ...[tf.exp(x), tf.sigmoid(x), tf.tanh(x), tf.softplus(x)],
        ...[tf.log(positive), tf.log1p(positive), tf.sqrt(positive), tf.rsqrt(positive)],
        ...[tf.div(x, positive), byRoot, byConstants, tf.reciprocal(positive)],
        ...[tf.softmax(at(inputs, 1)), tf.logSumExp(at(inputs, 1), 1)],
      ];
    },
  },
  {
    name: 'sums',
    shapes: [[ODD_LENGTH], [ODD_LENGTH, 13]],
    compute: ({ tf, kernels }, inputs) => {
      const rows = at(inputs, 1) as tfjs.Tensor2D;
      const places = Int32Array.from({ length: ODD_LENGTH }, (_, row) => (row * 7) % 101);
      const index = tf.tensor1d(places, 'int32');
      return [
        ...[tf.sum(at(inputs, 0)), tf.mean(rows, 0), tf.sum(rows, 1)],
        ...[kernels.gatherRows(rows, index), kernels.sumSegments(rows, index, 101)],
      ];
    },
  },
  { name: 'training', shapes: [[65, 40], [65], [40, 33], [33, 1]], compute: trainedByAdam },
];

const STEP_COUNT = 2;

/** Steps of Adam on a small network, so that the bits of gradients and updates count as well. */
function trainedByAdam({ tf, kernels }: Engine, inputs: Tensors): Tensors {
  const rows = at(inputs, 0) as tfjs.Tensor2D;
  const labels = tf.step(at(inputs, 1));
  const lossOf = (hidden: tfjs.Tensor, output: tfjs.Tensor): tfjs.Scalar => {
    const logits = tf.matMul(kernels.relu(tf.matMul(rows, hidden)), output).squeeze([1]);
    return tf.mean<tfjs.Scalar>(tf.sub(tf.softplus(logits), tf.mul(labels, logits)));
  };
  let weights = [at(inputs, 2), at(inputs, 3)];
  let moments = weights.map((weight) => ({
    first: tf.zerosLike(weight),
    second: tf.zerosLike(weight),
  }));
  for (let step = 0; step < STEP_COUNT; step += 1) {
    const gradients = tf.grads(lossOf)(weights);
    moments = moments.map(({ first, second }, index) => {
      const gradient = at(gradients, index);
      return {
        first: tf.add(tf.mul(first, 0.9), tf.mul(gradient, 0.1)),
        second: tf.add(tf.mul(second, 0.999), tf.mul(tf.square(gradient), 0.001)),
      };
    });
    weights = weights.map((weight, index) => {
      const { first, second } = moments[index] ?? { first: weight, second: weight };
      return tf.sub(weight, tf.div(tf.mul(first, 0.01), tf.add(tf.sqrt(second), 1e-8)));
    });
  }
  return weights;
}

/**
 * @param demanded undefined where the run has none yet.
 * @throws QianmoError of kind `environment` if the results would have other bits than those of the run.
 */
export function requireFingerprint(
  demanded: string | undefined,
  { fingerprint, numerics }: Pick<DeviceReport, 'fingerprint' | 'numerics'>,
): void {
  if (demanded === undefined || demanded === fingerprint) return;
  throw errorOf('environment', 'this machine computes other bits than the run', {
    expected: `fingerprint ${demanded}`,
    found: `${fingerprint} (${numericsText(numerics)})`,
    cure:
      'use machines of one kind, or train with compute.portable: true, with which unlike machines ' +
      `agree; to continue the run here on purpose, set compute.fingerprint: ${fingerprint}`,
    isOfThisMachine: true,
  });
}
