/** Starts the Python sides of the comparison. */

import { peerScript, threadEnvironment } from '../inner-loops/sides/sides.js';
import type { Launch } from '../inner-loops/sides/side-process.js';
import type { Contestant } from './contestants.js';

export const PEER_CELL = 'W2.first.5';
export const PEER_VARIANTS = ['compile', 'vmap'] as const;

export interface PeerRoom {
  readonly python: string;
  /** The gradient through torch.compile, or through torch.func.vmap alone. */
  readonly variant: (typeof PEER_VARIANTS)[number];
  /** An empty folder for the files of Ray and of torch.compile; a short path, because sockets are in it. */
  readonly scratch: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** @param folder that of the workload */
export function peerLaunch(
  { system, workerCount, computes }: Contestant,
  folder: string,
  { python, variant, scratch, environment }: PeerRoom,
): Launch {
  const given = { folder, cell: PEER_CELL, variant, workerCount, computes, scratch };
  return {
    command: python,
    args: ['-B', '-W', 'ignore', peerScript(`${system}_side.py`), JSON.stringify(given)],
    environment: {
      ...environment,
      ...threadEnvironment(1),
      PYTHONPATH: peerScript(''),
      PYTHONDONTWRITEBYTECODE: '1',
      RAY_USAGE_STATS_ENABLED: '0',
      RAY_AUTH_MODE: 'disabled',
      TORCHINDUCTOR_CACHE_DIR: `${scratch}/compiled`,
      TORCHINDUCTOR_COMPILE_THREADS: '1',
    },
    // Each of its workers pins itself.
    core: null,
  };
}
