// TensorFlow for GPUs on a machine without one: a stub of the driver presents a GPU, and the test
// checks which CUDA libraries TensorFlow then opened. This needs `qianmo setup --gpu` and a C
// compiler, but no GPU.

import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, onTestFinished } from 'vitest';
import { findOnPath } from '../../../infra/bootstrap/base.mjs';
import { isGpuTensorFlowInstalled } from '../../../infra/bootstrap/tensorflow.mjs';

const CUDA_LIBRARIES = ['libcudart.so.12', 'libcublas.so.12', 'libcublasLt.so.12', 'libcudnn.so.9'];

/** Enough of a driver for TensorFlow to find one Hopper device, and no more. */
const DRIVER_STUB = `
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int* version) { *version = 12090; return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char* name, int length, int device) { strncpy(name, "Stub", length); return 0; }
int cuDeviceTotalMem_v2(unsigned long* bytes, int device) { *bytes = 80ul << 30; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 132 : 1;
  return 0;
}
`;
const NVML_STUB = 'int nvmlInit_v2(void) { return 0; }\n';

const compiler = ['gcc', 'cc', 'clang'].map(findOnPath).find((path) => path !== undefined);

test.skipIf(!isGpuTensorFlowInstalled() || compiler === undefined)(
  'with a visible GPU, every CUDA library is opened',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'qianmo-driver-stub-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    for (const [name, source] of [
      ['libcuda.so.1', DRIVER_STUB],
      ['libnvidia-ml.so.1', NVML_STUB],
    ] as const) {
      const path = join(folder, `${name}.c`);
      await writeFile(path, source);
      const args = ['-shared', '-fPIC', '-w', '-o', join(folder, name), path];
      const built = spawnSync(compiler ?? '', args, { encoding: 'utf8' });
      expect(built.stderr).toBe('');
    }
    const { stderr } = spawnSync(process.execPath, ['infra/bootstrap/check-loading.mjs'], {
      encoding: 'utf8',
      env: {
        ...process.env,
        LD_LIBRARY_PATH: folder,
        TF_CPP_MIN_LOG_LEVEL: '0',
        TF_CPP_MAX_VLOG_LEVEL: '1',
      },
      maxBuffer: 2 ** 28,
      timeout: 300_000,
    });
    const opened = [...stderr.matchAll(/Successfully opened dynamic library (\S+)/g)].map(
      ([, name]) => name,
    );
    expect(opened).toEqual(expect.arrayContaining(['libcuda.so.1', ...CUDA_LIBRARIES]));
    expect(stderr).not.toContain('Cannot dlopen');
  },
);
