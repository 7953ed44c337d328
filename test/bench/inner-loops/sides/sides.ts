/** The sides of the benchmark: the variants of each and how its process is started. */

import { fileURLToPath } from 'node:url';
import type { Launch } from './side-process.js';
import type { SideArguments } from './side-protocol.js';
import type { WorkloadName } from './workload-data.js';

export const SIDE_NAMES = ['ours', 'jax', 'torch'] as const;
export type SideName = (typeof SIDE_NAMES)[number];

const PEERS = fileURLToPath(new URL('../../../../../test/bench/peers/', import.meta.url));
const OUR_SIDE = fileURLToPath(new URL('our-side.js', import.meta.url));

export function variantsOf(side: SideName, workload: WorkloadName): readonly string[] {
  switch (side) {
    case 'ours':
      return ['rewritten'];
    case 'jax':
      return [workload === 'W1' ? 'jit' : 'unique-host'];
    case 'torch':
      return workload === 'W1' ? ['vmap', 'compile'] : ['compile-unique', 'compile-stamp'];
  }
}

export function peerScript(name: string): string {
  return `${PEERS}${name}`;
}

export interface LaunchRoom {
  /** The Python of the peers' environment; null when only our side is measured. */
  readonly python: string | null;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The cache folder of torch.compile. */
  readonly compileCache: string;
}

export function launchOf(
  side: SideName,
  parameters: SideArguments,
  core: number | null,
  room: LaunchRoom,
): Launch {
  const text = JSON.stringify(parameters);
  const environment = {
    ...room.environment,
    ...threadEnvironment(parameters.threadCount),
    TORCHINDUCTOR_CACHE_DIR: room.compileCache,
  };
  if (side === 'ours')
    return { command: process.execPath, args: [OUR_SIDE, text], environment, core };
  if (room.python === null) throw new Error('the peers need a Python');
  return {
    command: room.python,
    args: ['-B', '-W', 'ignore', peerScript(`${side}_side.py`), text],
    environment,
    core,
  };
}

/**
 * Variables that the libraries read when they load. Machine-wide presets for one library are
 * removed.
 */
export function threadEnvironment(threadCount: number): Record<string, string | undefined> {
  const count = String(threadCount);
  return {
    OMP_NUM_THREADS: count,
    MKL_NUM_THREADS: count,
    OPENBLAS_NUM_THREADS: count,
    OPENBLAS_CORETYPE: undefined,
    OPENBLAS_L2_SIZE: undefined,
    XLA_FLAGS: undefined,
    TF_ENABLE_ONEDNN_OPTS: '1',
    TF_NUM_INTRAOP_THREADS: count,
    TF_NUM_INTEROP_THREADS: '-1',
    TF_CPP_MIN_LOG_LEVEL: '2',
  };
}
