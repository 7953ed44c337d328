// The reports of a compute process about its device, and when a required GPU is refused.

import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { findCudaLibraries, requireDevice } from '../../../worker/compute/device/require-device.js';
import {
  DeviceReportSchema,
  formatDeviceLine,
  type DeviceReport,
} from '../../../shared/events/device-report.js';
import { measureDevice, processorFeatures } from '../../../worker/compute/device/measure-device.js';
import { parseGpuList, visibleDevicesFor } from '../../../worker/compute/device/gpus.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';

const GPU_LIST =
  '0, NVIDIA H100 80GB HBM3, 81559, 570.86.15, 9.0\n1, NVIDIA L4, 23034, 570.86.15, 8.9\n';
const gpus = parseGpuList(GPU_LIST);

const onCpu: DeviceReport = {
  device: 'cpu',
  backend: 'tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU',
  isNative: true,
  processor: { name: 'AMD EPYC 7763', features: ['avx', 'avx2', 'fma'] },
  threads: { intraOp: 1, interOp: 1, openMp: null },
  gpu: null,
  cudaLibraries: [],
  product: { width: 512, gflops: 84.123 },
  fingerprint: 'cpu-avx2-onednn-01234567',
  numerics: {
    ...{
      computesOn: 'cpu',
      instructionSet: 'avx2',
      features: ['avx', 'avx2', 'fma'],
      oneDnn: true,
    },
    ...{ versions: ['tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU'], gpu: null },
    ...{ builds: [{ file: 'tfjs_binding.node', digest: '0123' }], probe: '4567' },
  },
};

describe('the report', () => {
  test('is one line for a CPU', () => {
    expect(formatDeviceLine(onCpu)).toBe(
      'tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU, 1 thread of AMD EPYC 7763, oneDNN on, ' +
        '84 GFLOPS at 512^3, cpu-avx2-onednn-01234567',
    );
  });

  test('of the backends of this machine passes its schema, within bounds', async () => {
    for (const choice of ['auto', 'cpu'] as const) {
      const engine = await loadEngine(choice, () => undefined);
      const tensorCount = engine.tf.memory().numTensors;
      const environment = { TF_NUM_INTRAOP_THREADS: '2', OMP_NUM_THREADS: 'all' };
      const report = await measureDevice(engine, { clock: systemClock, environment });
      const inCaller = { ...environment, TF_NUM_INTEROP_THREADS: '-1' };
      const { threads } = await measureDevice(engine, {
        clock: systemClock,
        environment: inCaller,
      });
      expect(threads.interOp).toBe(1);
      expect(DeviceReportSchema.parse(report)).toEqual(report);
      expect(report.threads).toEqual({ intraOp: 2, interOp: null, openMp: null });
      expect(report.product.gflops).toBeGreaterThan(0);
      expect(engine.tf.memory().numTensors).toBe(tensorCount);
    }
  });

  test('names the instruction sets of x86 and ARM', () => {
    const x86 =
      'processor\t: 0\nflags\t\t: fpu sse4_2 avx2 fma avx512f erms\nflags\t\t: amx_tile\n';
    expect(processorFeatures(x86)).toEqual(['sse4_2', 'avx2', 'fma', 'avx512f']);
    expect(processorFeatures('Features\t: fp asimd sve\n')).toEqual(['asimd', 'sve']);
    expect(processorFeatures('')).toEqual([]);
  });
});

describe('a requirement', () => {
  const refusalOf = (report: DeviceReport, hasDriver: boolean, missing: string[]): QianmoError => {
    try {
      requireDevice('gpu', report, () => ({ hasDriver, missing }));
    } catch (error) {
      if (error instanceof QianmoError) return error;
    }
    throw new Error('not refused');
  };

  test('for a GPU names the missing libraries and the command that installs them', () => {
    const error = refusalOf(onCpu, false, ['libcudart.so.12', 'libcudnn.so.9']);
    expect(error.exitCode).toBe(3);
    expect(error.report.isOfThisMachine).toBe(true);
    expect(error.report.found).toContain('libcudart.so.12, libcudnn.so.9');
    expect(error.report.found).toContain('libcuda.so.1');
    expect(error.report.cure).toContain('qianmo setup --gpu');
  });

  test.each([
    ['the driver', onCpu, false, /driver/],
    ['a visible GPU', onCpu, true, /CUDA_VISIBLE_DEVICES/],
    ['native TensorFlow', { ...onCpu, isNative: false }, true, /setup --gpu/],
    ['nothing it could name', { ...onCpu, gpu: gpus[0] ?? null }, true, /TF_CPP_MAX_VLOG_LEVEL/],
  ])('for a GPU, lacking %s, has the matching cure', (_, report, hasDriver, cure) => {
    expect(refusalOf(report, hasDriver, []).report.cure).toMatch(cure);
  });
});

describe('libraries of CUDA', () => {
  test('are found next to TensorFlow or in the system, and the missing ones are named', () => {
    const there = new Set(['nvidia/cublas/lib/libcublas.so.12', 'libcudart.so.12', 'libcuda.so.1']);
    const found = findCudaLibraries(['nvidia/cufft/lib', 'nvidia/cublas/lib'], (path) =>
      there.has(path) ? null : `${path}: cannot open shared object file`,
    );
    expect(found).toEqual({
      hasDriver: true,
      missing: [
        'libcublasLt.so.12',
        'libcufft.so.11',
        'libcusolver.so.11',
        'libcusparse.so.12',
        'libcudnn.so.9',
      ],
    });
  });
});

describe('GPUs', () => {
  test('are read from the list, whatever else is printed', () => {
    expect(gpus.map(({ name, memoryMiB }) => [name, memoryMiB])).toEqual([
      ['NVIDIA H100 80GB HBM3', 81559],
      ['NVIDIA L4', 23034],
    ]);
    expect(parseGpuList('No devices were found\n')).toEqual([]);
    expect(parseGpuList('0, NVIDIA GB10, [N/A], 580.1, 12.1\n')[0]?.memoryMiB).toBe(0);
  });

  test.each([
    ['auto', undefined, undefined, undefined],
    ['auto', undefined, '2,3', '2,3'],
    ['cpu', 1, '2,3', '-1'],
    ['auto', 1, undefined, '1'],
    ['gpu', 1, '2,3', '3'],
    ['gpu', 2, '2,3', '-1'],
    ['gpu', 0, '', '-1'],
    ['gpu', 0, 'GPU-5e1f', 'GPU-5e1f'],
    ['gpu', 1, '0,-1,2', '-1'],
  ] as const)('device %s, index %s of those selected by %s: %s', (device, index, by, seen) => {
    expect(visibleDevicesFor(device, index, by)).toBe(seen);
  });
});
