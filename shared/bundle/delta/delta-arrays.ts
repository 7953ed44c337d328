/** The blocks of a delta in memory: those of its changed and new adgroups, in the order of the delta. */

import { spanAt, uint32At } from '../../base/arrays.js';
import { BundleArrays, type ReadFile } from '../array-files.js';
import type { DeltaManifest } from '../bundle-manifest.js';
import type { PersonalBlocks, RankingModel } from '../ranking-model.js';
import { blocksOf, selfCheckOf } from '../read-bundle.js';
import { SELF_CHECK_RUNS, type DeltaSelfCheck } from './kept-rows.js';

export interface LoadedDelta {
  readonly blocks: PersonalBlocks;
  readonly labels: Int32Array;
  readonly calibrations: Int32Array;
  readonly keys: readonly string[];
  /** The block of each adgroup in a full export of the same store. */
  readonly places: Uint32Array;
  /** Blocks of that full export, with block 0. */
  readonly fullBlockCount: number;
  readonly selfCheck: DeltaSelfCheck;
}

export async function readDelta(
  manifest: DeltaManifest,
  model: Pick<RankingModel, 'spec' | 'shift'>,
  read: ReadFile,
  where: string,
): Promise<LoadedDelta> {
  const arrays = new BundleArrays(manifest.arrays, read, where);
  const { changedAdgroupCount, newAdgroupCount } = manifest.delta;
  const count = changedAdgroupCount + newAdgroupCount;
  const offsets = await arrays.uint32('keys.offsets', [count + 1]);
  const bytes = await arrays.uint8('keys.bytes', [uint32At(offsets, count)]);
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    blocks: await blocksOf({ manifest, arrays, where }, model, count),
    labels: await arrays.int32('blocks.labels', [count]),
    calibrations: await arrays.int32('blocks.calibrations', [count]),
    keys: Array.from({ length: count }, (_, place) =>
      decoder.decode(bytes.subarray(...spanAt(offsets, place))),
    ),
    places: await arrays.uint32('blocks.places', [count]),
    fullBlockCount: manifest.blocks.count,
    selfCheck: {
      runs: await runsOf(arrays),
      own: await selfCheckOf({ manifest, arrays }),
    },
  };
}

async function runsOf(arrays: BundleArrays): Promise<Int32Array | null> {
  if (!arrays.has(SELF_CHECK_RUNS)) return null;
  return arrays.int32(SELF_CHECK_RUNS, [arrays.shapeOf(SELF_CHECK_RUNS)[0] ?? 0, 2]);
}
