/** The peers: Python programs that read a cell's files and know nothing of qianmo. */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import type { Unit } from './arm-units.js';
import type { CellFiles } from './cell-files.js';

export const PEERS_FOLDER = new URL('test/bench/real/peers/', packageRoot).pathname;
export const PEER_NAMES = ['logistic', 'lightgbm', 'deepfm', 'deepfm-support'] as const;
type PeerName = (typeof PEER_NAMES)[number];

const OUTPUT_BYTE_COUNT_MAX = 16 * 1024 * 1024;
const PEER_TIMEOUT_MS = 60 * 60_000;

/** Their libraries would each take all cores. */
const ONE_THREAD = { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1' };

const SummariesSchema = z.strictObject({
  summaries: z.array(
    z.strictObject({
      arm: z.string(),
      validationLogloss: z.number(),
      logloss: z.number(),
      auc: z.number().nullable(),
      settings: z.record(z.string(), z.unknown()),
    }),
  ),
});

export interface PeerRoom {
  readonly python: string;
  /** The time for the search of each peer. */
  readonly secondsMax: number;
}

export function peerUnit(
  name: PeerName,
  { folder }: Pick<CellFiles, 'folder'>,
  seed: number,
  { python, secondsMax }: PeerRoom,
): Unit {
  return {
    ...{ name, side: 'peer', folder },
    wanted: JSON.stringify({ seed, secondsMax, sources: sourcesDigest() }),
    run: async () => {
      const words = [join(PEERS_FOLDER, 'peer.py'), folder, name, String(seed)];
      const { stdout } = await promisify(execFile)(
        python,
        ['-B', '-W', 'ignore', ...words, String(secondsMax)],
        { maxBuffer: OUTPUT_BYTE_COUNT_MAX, timeout: PEER_TIMEOUT_MS, env: ONE_THREAD },
      );
      const { summaries } = SummariesSchema.parse(JSON.parse(stdout));
      return summaries.map(({ arm, validationLogloss, logloss, auc, settings }) => ({
        ...{ name: arm, validationLogloss, settings },
        claimed: { logloss, auc },
      }));
    },
  };
}

function sourcesDigest(): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(PEERS_FOLDER).sort())
    if (/\.(py|txt)$/.test(file)) hash.update(readFileSync(join(PEERS_FOLDER, file)));
  return hash.digest('hex').slice(0, 16);
}
