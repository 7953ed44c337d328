/** Composes the numerical fingerprint of this process from its engine, its environment and the probe. */

import { createHash } from 'node:crypto';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import type { Gpu } from '../../../shared/events/device-report.js';
import type { Numerics } from '../../../shared/events/fingerprint.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import { nativeBackendOf } from '../engine/native-backend.js';
import { INSTRUCTION_SET_MAX } from './numerical-environment.js';
import { numericalProbe } from './numerical-probe.js';
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { basename } from 'node:path';

interface LibraryBuild {
  readonly file: string;
  /** The beginning of a digest of the file's size and its first mebibyte. */
  readonly digest: string;
}

const OF_CPU = /^(libtensorflow(_cc|_framework)?\.so[.\d]*|tfjs_binding\.node)$/;
const OF_GPU = /^lib(cudart|cublas|cublasLt|cudnn\w*)\.so[.\d]*$/;
/**
 * The beginning of a library holds its build id, its symbols and their hashes, which differ between any
 * two builds. The whole file has up to a gigabyte.
 */
const READ_BYTE_COUNT_MAX = 2 ** 20;
const DIGEST_LENGTH = 12;

/** In order of file names. Empty where the kernel lists no mapped files. */
export function libraryBuilds(usesGpu: boolean, mapsPath = '/proc/self/maps'): LibraryBuild[] {
  const isComputing = (path: string): boolean =>
    OF_CPU.test(basename(path)) || (usesGpu && OF_GPU.test(basename(path)));
  const paths = new Set(mappedFiles(mapsPath).filter(isComputing));
  return [...paths]
    .map((path) => ({ file: basename(path), digest: digestOf(path) }))
    .sort((a, b) => (a.file < b.file ? -1 : 1));
}

function mappedFiles(mapsPath: string): string[] {
  try {
    return readFileSync(mapsPath, 'utf8')
      .split('\n')
      .flatMap((line) => /\s(\/.*)$/.exec(line)?.[1] ?? []);
  } catch {
    return [];
  }
}

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
  return hash.digest('hex').slice(0, DIGEST_LENGTH);
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
  readonly oneDnn: boolean | null;
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
  const { environment, cpuinfo, oneDnn } = surroundings;
  const gpu = backend.isUsingGpuDevice ? surroundings.gpu : null;
  return {
    computesOn: backend.isUsingGpuDevice ? 'gpu' : 'cpu',
    ...instructionsOf(cpuinfo, isLimited(environment)),
    ...(gpu === null ? {} : { instructionSet: `sm${gpu.computeCapability.replace('.', '')}` }),
    oneDnn,
    versions: [engine.description],
    builds: libraryBuilds(backend.isUsingGpuDevice),
    gpu: gpu === null ? null : `${gpu.name}, driver ${gpu.driverVersion}`,
    probe,
  };
}

function isLimited(environment: Surroundings['environment']): boolean {
  return INSTRUCTION_SET_MAX.some((name) => environment[name] !== undefined);
}

/** The instruction set in effect, and the features of the processor that belong to it. */
export function instructionsOf(
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
