// The reports of a compute process about its device, and when a required GPU is refused.

import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  deviceReportLines,
  DeviceReportSchema,
  formatDeviceLine,
  type DeviceReport,
} from '../../../shared/events/device-report.js';
import {
  computeEnvironment,
  countUsableGpus,
  firstVisibleGpu,
} from '../../../worker/compute/device/gpus.js';
import { measureDevice, requireDevice } from '../../../worker/compute/device/measure-device.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { sampleDevice as onCpu } from '../../fixtures/every-event.js';
import { refusalOf } from '../../fixtures/failures.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const gpu = {
  ...{ index: 0, name: 'NVIDIA H100 80GB HBM3', memoryMiB: 81559 },
  ...{ driverVersion: '570.86.15', computeCapability: '9.0' },
};
const onGpu: DeviceReport = { ...onCpu, device: 'gpu', gpu };

describe('the report', () => {
  test('is one line for a CPU and for a GPU', () => {
    expect(formatDeviceLine(onCpu)).toBe(
      'tfjs-node 4.22.0, TensorFlow 2.21.0, CPU, 1 thread of a processor, cpu-avx2-onednn-01234567',
    );
    expect(formatDeviceLine(onGpu)).toContain(
      ', GPU 0 NVIDIA H100 80GB HBM3 (79.6 GiB, compute 9.0, driver 570.86.15), ',
    );
  });

  test('says in full that a GPU is idle', () => {
    const lines = new Map(deviceReportLines({ ...onCpu, gpu }));
    expect(lines.get('GPU')).toMatch(/^GPU 0 NVIDIA H100 .*NOT USED$/);
    expect(lines.get('instruction set')).toBe('avx2, avx2, fma');
  });

  test('of this machine passes its schema, and repeats', async () => {
    const engine = await loadEngine('tensorflow', () => undefined);
    const tensorCount = engine.tf.memory().numTensors;
    const report = await measureDevice(engine, process.env);
    expect(DeviceReportSchema.parse(report)).toEqual(report);
    expect((await measureDevice(engine, process.env)).numerics).toEqual(report.numerics);
    expect(engine.tf.memory().numTensors).toBe(tensorCount);
  });
});

describe('a requirement', () => {
  test('that is met, or none, passes', () => {
    requireDevice('gpu', onGpu);
    requireDevice('auto', onCpu);
    requireDevice('cpu', onCpu);
  });

  test.each([
    ['cpu', onGpu, /--device cpu/],
    ['gpu', onCpu, /driver.*CUDA_VISIBLE_DEVICES/],
    ['gpu', { ...onCpu, gpu }, /setup --gpu/],
    ['gpu', { ...onCpu, isNative: false }, /setup --gpu/],
  ] as const)(
    'for %s is refused as a fault of this machine, with its cure',
    (demand, found, cure) => {
      const { exitCode, report } = refusalOf(() => requireDevice(demand, found));
      expect([exitCode, report.isOfThisMachine]).toEqual([3, true]);
      expect(report.cure).toMatch(cure);
    },
  );
});

describe('GPUs', () => {
  afterEach(() => vi.unstubAllEnvs());

  test('are counted and named among the selected ones, whatever else the driver prints', async () => {
    const folder = await temporaryFolder();
    const command = join(folder.path, 'nvidia-smi');
    const listed =
      '0, NVIDIA H100 80GB HBM3, 81559, 570.86.15, 9.0\n1, NVIDIA GB10, [N/A], 580.1, 12.1\nno device';
    writeFileSync(command, `#!/bin/sh\nprintf '${listed}'\n`);
    chmodSync(command, 0o755);
    vi.stubEnv('PATH', `${folder.path}:${process.env.PATH ?? ''}`);
    expect(await countUsableGpus({})).toBe(2);
    expect(await countUsableGpus({ CUDA_VISIBLE_DEVICES: '1' })).toBe(1);
    expect(await countUsableGpus({ CUDA_VISIBLE_DEVICES: '-1' })).toBe(0);
    expect(await firstVisibleGpu({})).toEqual(gpu);
    expect(await firstVisibleGpu({ CUDA_VISIBLE_DEVICES: '1,0' })).toMatchObject({
      index: 1,
      memoryMiB: 0,
    });
    expect(await firstVisibleGpu({ CUDA_VISIBLE_DEVICES: '-1' })).toBeNull();
    await folder.remove();
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
    const environment = computeEnvironment({ CUDA_VISIBLE_DEVICES: by }, device, index);
    expect(environment['CUDA_VISIBLE_DEVICES']).toBe(seen);
  });
});
