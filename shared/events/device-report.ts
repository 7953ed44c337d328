/** The device of a compute process, as a record that crosses process boundaries and as text. */

import { z } from 'zod';

/** `cpu-avx512-onednn-3f9a1c22`: what computes, and the beginning of a digest of all the details. */
export const FingerprintSchema = z
  .string()
  .regex(
    /^[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{8}$/,
    'expected a fingerprint as qianmo check prints it, such as cpu-avx512-onednn-3f9a1c22',
  );

/** The parts of a fingerprint. Each one enters its digest. */
const NumericsSchema = z.strictObject({
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
function numericsLines(numerics: Numerics): (readonly [string, string])[] {
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

export const GpuSchema = z.strictObject({
  /** In PCI bus order, like nvidia-smi and `CUDA_DEVICE_ORDER=PCI_BUS_ID`. */
  index: z.int().nonnegative(),
  name: z.string(),
  memoryMiB: z.int().nonnegative(),
  driverVersion: z.string(),
  /** `9.0` is Hopper. */
  computeCapability: z.string(),
});
export type Gpu = z.infer<typeof GpuSchema>;

export const DeviceReportSchema = z.strictObject({
  device: z.enum(['cpu', 'gpu']),
  /** `tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU` */
  backend: z.string(),
  isNative: z.boolean(),
  processor: z.string(),
  /** The GPU that this process sees, whether or not it is used. */
  gpu: GpuSchema.nullable(),
  /** Equal on machines that compute the same bits. */
  fingerprint: FingerprintSchema,
  numerics: NumericsSchema,
});
export type DeviceReport = z.infer<typeof DeviceReportSchema>;

/** The device of a compute process that runs. */
export interface FoundDevice extends DeviceReport {
  /** Portable jobs have another fingerprint. */
  readonly isPortable: boolean;
}

/** One line for the terminal and the log. */
export function formatDeviceLine(report: DeviceReport): string {
  const { backend, device, gpu, processor, fingerprint } = report;
  const computing = device === 'gpu' && gpu !== null ? gpuText(gpu) : `1 thread of ${processor}`;
  return [backend, computing, fingerprint].join(', ');
}

/** The whole report, as pairs of label and value. */
export function deviceReportLines(report: DeviceReport): (readonly [string, string])[] {
  const { backend, device, gpu, processor, fingerprint, numerics } = report;
  const isIdle = device === 'cpu' && gpu !== null;
  return [
    ['backend', backend],
    ['processor', processor],
    ['GPU', gpu === null ? 'none seen' : `${gpuText(gpu)}${isIdle ? ', NOT USED' : ''}`],
    ['fingerprint', fingerprint],
    ...numericsLines(numerics),
  ];
}

/** `GPU 0 NVIDIA H100 (79.6 GiB, compute 9.0, driver 550.54)` */
export function gpuText(gpu: Gpu): string {
  const memory =
    gpu.memoryMiB === 0 ? 'memory unknown' : `${(gpu.memoryMiB / 1024).toFixed(1)} GiB`;
  return (
    `GPU ${gpu.index} ${gpu.name} (${memory}, compute ${gpu.computeCapability}, ` +
    `driver ${gpu.driverVersion})`
  );
}
