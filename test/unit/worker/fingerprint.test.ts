/** The parts of the numerical fingerprint, and the environment that decides it. */

import { describe, expect, it } from 'vitest';
import { FingerprintSchema, type Numerics } from '../../../shared/events/device-report.js';
import {
  fingerprintOf,
  numericsOf,
  requireFingerprint,
} from '../../../worker/compute/device/fingerprint.js';
import {
  numericalEnvironment,
  settleOwnEnvironment,
} from '../../../worker/compute/device/numerical-environment.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';

const numerics: Numerics = {
  ...{ computesOn: 'cpu', instructionSet: 'avx512', features: ['avx512f'], oneDnn: true },
  ...{ versions: ['TensorFlow 2.21.0'], gpu: null },
  ...{ builds: [{ file: 'tfjs_binding.node', digest: '0123' }], probe: '4567' },
};

const engine = await loadEngine('tensorflow', () => undefined);

it('the environment of a compute process loses what decides bits and what reaches the queue, and keeps the rest', () => {
  const { TF_CPP_MIN_LOG_LEVEL, PATH, GLIBC_TUNABLES, ...rest } = numericalEnvironment(
    {
      ...{ TF_ENABLE_ONEDNN_OPTS: '0', ONEDNN_MAX_CPU_ISA: 'AVX2', DNNL_MAX_CPU_ISA: 'AVX' },
      ...{ TF_NUM_INTRAOP_THREADS: '8', OMP_NUM_THREADS: '8', KMP_BLOCKTIME: '1' },
      ...{ TF_XLA_FLAGS: '--tf_xla_auto_jit=2', XLA_FLAGS: 'x', NVIDIA_TF32_OVERRIDE: '0' },
      ...{ TF_CPP_MIN_LOG_LEVEL: '0', PATH: '/bin', QIANMO_PORTABLE: '1' },
      ...{ QIANMO_REDIS_URL: 'redis://:p@h:1', QIANMO_SIGNING_KEY: 'k' },
      QIANMO_SIGNING_KEY_FILE: '/key',
      GLIBC_TUNABLES: 'glibc.cpu.hwcaps=-AVX2:glibc.malloc.perturb=1',
    },
    false,
  );
  expect([TF_CPP_MIN_LOG_LEVEL, PATH]).toEqual(['0', '/bin']);
  expect(GLIBC_TUNABLES).toBe('glibc.malloc.perturb=1');
  expect(rest).toEqual({
    ...{ TF_ENABLE_ONEDNN_OPTS: '1', TF_DETERMINISTIC_OPS: '1' },
    ...{ TF_NUM_INTRAOP_THREADS: '1', TF_NUM_INTEROP_THREADS: '-1', OMP_NUM_THREADS: '1' },
    ...{ TF_FORCE_GPU_ALLOW_GROWTH: 'true', CUDA_DEVICE_ORDER: 'PCI_BUS_ID' },
  });
});

describe('the environment of this process', () => {
  const secret = { QIANMO_REDIS_URL: 'redis://:p@h:1' };
  const settled = (own: Record<string, string | undefined>, isLoaded = false): boolean =>
    settleOwnEnvironment(own, numericalEnvironment(own, false), () => isLoaded);

  it('becomes that of a compute process, and keeps what this process needs', () => {
    const own = { ...secret, OMP_NUM_THREADS: '8', DNNL_MAX_CPU_ISA: 'AVX', PATH: '/bin' };
    const wanted = numericalEnvironment(own, false);
    expect(settled(own)).toBe(true);
    const { GLIBC_TUNABLES, ...set } = wanted;
    expect(GLIBC_TUNABLES).toBeUndefined();
    expect(own).toEqual({ ...set, ...secret });
  });
});

describe('the instruction set', () => {
  const instructionsOf = (cpuinfo: string, isPortable: boolean) => {
    const environment = isPortable ? { ONEDNN_MAX_CPU_ISA: 'AVX2' } : {};
    const found = numericsOf(engine, { environment, cpuinfo, gpu: null, shelves: null });
    return { instructionSet: found.instructionSet, features: found.features };
  };
  const flags = (text: string): string => `processor\t: 0\nflags\t\t: fpu ${text} erms\n`;
  const newest = flags('sse4_2 avx avx2 fma avx_vnni avx512f avx512bw avx512vl avx512dq amx_tile');

  it.each([
    ['avx512', newest],
    ['avx2', flags('sse4_2 avx avx2 fma avx512f')],
    ['avx', flags('sse4_2 avx avx2')],
    ['sse4', flags('sse4_2')],
    ['sve', 'Features\t: fp asimd sve\n'],
    ['unknown', ''],
  ])('is %s', (expected, cpuinfo) => {
    expect(instructionsOf(cpuinfo, false).instructionSet).toBe(expected);
  });
});

describe('the fingerprint', () => {
  it('names what computes and covers every detail', () => {
    const departures: readonly Partial<Numerics>[] = [
      { features: [] },
      { versions: ['TensorFlow 2.22.0'] },
      { builds: [{ file: 'tfjs_binding.node', digest: '0124' }] },
      { probe: '4568' },
      { gpu: 'NVIDIA L4' },
      {},
    ];
    const found = departures.map((departure) => fingerprintOf({ ...numerics, ...departure }));
    for (const each of found) {
      expect(each).toMatch(/^cpu-avx512-onednn-[0-9a-f]{8}$/);
      expect(FingerprintSchema.parse(each)).toBe(each);
    }
    expect(new Set(found).size).toBe(departures.length);
    const portable = { ...numerics, computesOn: 'wasm', instructionSet: null } as const;
    expect(fingerprintOf({ ...portable, oneDnn: null })).toMatch(/^wasm-[0-9a-f]{8}$/);
    expect(fingerprintOf({ ...numerics, oneDnn: false })).toMatch(/^cpu-avx512-[0-9a-f]{8}$/);
  });

  it('of another machine is refused with both names, the details and the cure', () => {
    const own = { fingerprint: fingerprintOf(numerics), numerics };
    requireFingerprint(undefined, own);
    requireFingerprint(own.fingerprint, own);
    expect(() => requireFingerprint('cpu-avx2-onednn-00000000', own)).toThrow(
      expect.objectContaining({
        report: expect.objectContaining({
          isOfThisMachine: true,
          expected: 'fingerprint cpu-avx2-onednn-00000000',
          found: expect.stringContaining(`${own.fingerprint} (instruction set avx512`) as string,
          cure: expect.stringContaining(`compute.fingerprint: ${own.fingerprint}`) as string,
        }) as unknown,
      }) as Error,
    );
  });
});
