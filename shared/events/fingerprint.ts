/**
 * The numerical fingerprint of a compute process: a short name for everything that decides the bits of
 * its results. Two processes with one fingerprint compute the same bits; a run admits results of one
 * fingerprint only (decision 0011).
 */

import { z } from 'zod';

/** `cpu-avx512-onednn-3f9a1c22`: what computes, and the beginning of a digest of all the details. */
export const FingerprintSchema = z
  .string()
  .regex(
    /^[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{8}$/,
    'expected a fingerprint as qianmo check prints it, such as cpu-avx512-onednn-3f9a1c22',
  );

/** The parts of a fingerprint. Each one enters its digest. */
export const NumericsSchema = z.strictObject({
  /** `wasm` and `js` are portable backends. */
  computesOn: z.enum(['cpu', 'gpu', 'wasm', 'js']),
  /** The instruction set that kernels are chosen for; of a GPU, its compute capability. */
  instructionSet: z.string().nullable(),
  /** The processor's features up to that instruction set. */
  features: z.array(z.string()),
  /** Null when it is not set, or when the backend has no oneDNN. */
  oneDnn: z.boolean().nullable(),
  /** `tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU` */
  versions: z.array(z.string()),
  /** The native libraries that compute, each with the beginning of a digest. */
  builds: z.array(z.strictObject({ file: z.string(), digest: z.string() })),
  /** Name and driver of the GPU that computes; null on a CPU. */
  gpu: z.string().nullable(),
  /** The beginning of the digest of the probe's results. */
  probe: z.string(),
});
export type Numerics = z.infer<typeof NumericsSchema>;

/** The details as pairs of label and value, to compare two machines line by line. */
export function numericsLines(numerics: Numerics): (readonly [string, string])[] {
  const { instructionSet, features, oneDnn, versions, builds, gpu, probe } = numerics;
  return [
    ...(instructionSet === null
      ? []
      : [['instruction set', [instructionSet, ...features].join(', ')] as const]),
    ['versions', versions.join(', ')],
    ['builds', builds.map(({ file, digest }) => `${file} ${digest}`).join(', ') || 'none'],
    ...(oneDnn === null ? [] : [['oneDNN', oneDnn ? 'on' : 'off'] as const]),
    ...(gpu === null ? [] : [['GPU and driver', gpu] as const]),
    ['probe', probe],
  ];
}

/** The details on one line, for an error. */
export function numericsText(numerics: Numerics): string {
  return numericsLines(numerics)
    .map(([label, value]) => `${label} ${value}`)
    .join('; ');
}
