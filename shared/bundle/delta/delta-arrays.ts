/** The blocks of a delta in memory: those of its changed and new adgroups, in the order of the delta. */

import { spanAt, uint32At } from '../../base/arrays.js';
import { BundleArrays, type ReadFile } from '../array-files.js';
import type { DeltaManifest } from '../bundle-manifest.js';
import type { PersonalBlocks, RankingModel } from '../ranking-model.js';
import { blocksOf } from '../read-bundle.js';

export interface LoadedDelta {
  readonly blocks: PersonalBlocks;
  readonly labels: Int32Array;
  readonly calibrations: Int32Array;
  readonly keys: readonly string[];
  /** The block of each adgroup in a full export of the same store. */
  readonly places: Uint32Array;
  /** Blocks of that full export, with block 0. */
  readonly fullBlockCount: number;
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
  };
}
