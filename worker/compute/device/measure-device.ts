/** Describes the machine, the settings and the loaded engine, and measures a small product. */

import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { median } from '../../../shared/base/arrays.js';
import type { Clock } from '../../../shared/base/clock.js';
import { withoutTensorsLeft, type Engine } from '../engine/load-engine.js';
import { nativeBackendOf } from '../engine/native-backend.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import { mappedCudaLibraries } from './require-device.js';
import type { DeviceReport } from '../../../shared/events/device-report.js';
import { fingerprintOf, numericsOf } from './fingerprint.js';
import { listGpus, firstVisibleGpu } from './gpus.js';

interface DeviceSurroundings {
  readonly clock: Clock;
  /** The environment of this process, which the libraries read. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Keeps the graph of the numerical probe, whose results are computed each time. */
  readonly shelves?: GraphShelves | null;
}

/** Takes a few milliseconds on one core of a server; portable backends get a smaller product. */
const WIDTH_NATIVE = 512;
const WIDTH_PORTABLE = 128;
const REPEAT_COUNT_MAX = 1_000;
const SAMPLE_COUNT_MAX = 5;
/** No sample begins after this time. */
const SAMPLING_MS_MAX = 30;
const FEATURES = new Set([
  'sse4_2',
  'avx',
  'avx2',
  'fma',
  'avx_vnni',
  'avx512f',
  'avx512_vnni',
  'avx512_bf16',
  'amx_tile',
  'amx_bf16',
  'asimd',
  'sve',
  'sve2',
  'bf16',
]);

export async function measureDevice(
  engine: Engine,
  { clock, environment, shelves = null }: DeviceSurroundings,
): Promise<DeviceReport> {
  const backend = nativeBackendOf(engine.tf);
  const cpuinfo = textOf('/proc/cpuinfo');
  const oneDnn = backend === null ? null : switchOf(environment['TF_ENABLE_ONEDNN_OPTS']);
  const gpu = firstVisibleGpu(await listGpus(), environment['CUDA_VISIBLE_DEVICES']);
  const numerics = numericsOf(engine, { environment, cpuinfo, gpu, oneDnn, shelves });
  return {
    device: backend?.isUsingGpuDevice === true ? 'gpu' : 'cpu',
    backend: engine.description,
    isNative: backend !== null,
    processor: {
      name: cpus()[0]?.model.trim() || 'unknown processor',
      features: processorFeatures(cpuinfo),
    },
    threads: {
      intraOp: threadCountOf(environment['TF_NUM_INTRAOP_THREADS']),
      interOp: interOpCountOf(environment['TF_NUM_INTEROP_THREADS']),
      openMp: threadCountOf(environment['OMP_NUM_THREADS']),
    },
    gpu,
    cudaLibraries: mappedCudaLibraries(),
    product: measureProduct(engine, clock, backend === null ? WIDTH_PORTABLE : WIDTH_NATIVE),
    fingerprint: fingerprintOf(numerics),
    numerics,
  };
}

/** The relevant flags of the first processor in `/proc/cpuinfo`, in its order. */
export function processorFeatures(cpuinfo: string): string[] {
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(cpuinfo)?.[1] ?? '';
  return flags.split(/\s+/).filter((flag) => FEATURES.has(flag));
}

/** TensorFlow chooses the number itself if the value is 0 or no number. */
function threadCountOf(text: string | undefined): number | null {
  const count = Number(text);
  return Number.isSafeInteger(count) && count > 0 ? count : null;
}

/** With a negative count the calling thread runs all operations, one after the other. */
function interOpCountOf(text: string | undefined): number | null {
  return Number(text) < 0 ? 1 : threadCountOf(text);
}

function switchOf(text: string | undefined): boolean | null {
  return text === undefined || text === '' ? null : text !== '0' && text.toLowerCase() !== 'false';
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/**
 * The median of a few products of two `[width, width]` matrices of ones, after one to warm up. 0 only
 * when the clock stands still.
 */
function measureProduct(engine: Engine, clock: Clock, width: number): DeviceReport['product'] {
  const { tf } = engine;
  const sampleMs = (): number =>
    withoutTensorsLeft(engine, () => {
      const left = tf.ones([width, width]);
      const right = tf.ones([width, width]);
      // Only reads wait for a device, for the inputs as for the product.
      firstValueOf(engine, tf.add(left, right));
      return repeatedMs(clock, () => firstValueOf(engine, tf.matMul(left, right)));
    });
  sampleMs();
  const samples: number[] = [];
  const startMs = clock.monotonicMs();
  do samples.push(sampleMs());
  while (samples.length < SAMPLE_COUNT_MAX && clock.monotonicMs() - startMs < SAMPLING_MS_MAX);
  const medianMs = median(samples);
  const gflops = medianMs > 0 ? (2 * width ** 3) / (medianMs * 1e6) : 0;
  // Significant digits, since a portable backend on a busy machine is far below 0.01.
  return { width, gflops: Number(gflops.toPrecision(3)) };
}

/** The time of `work`, which is repeated until the clock advances. */
function repeatedMs(clock: Clock, work: () => void): number {
  const startMs = clock.monotonicMs();
  for (let count = 1; count <= REPEAT_COUNT_MAX; count += 1) {
    work();
    const elapsedMs = clock.monotonicMs() - startMs;
    if (elapsedMs > 0) return elapsedMs / count;
  }
  return 0;
}

function firstValueOf({ tf }: Engine, matrix: ReturnType<Engine['tf']['ones']>): void {
  tf.slice(matrix, [0, 0], [1, 1]).dataSync();
}
