/**
 * A ranking model in memory: all that a scorer reads. The reader of a bundle fills it, from mapped
 * files if it likes, and no scorer writes to it.
 *
 * A block is what one adgroup has of its own. Block 0 is what an adgroup without a block gets. The
 * blocks of all adgroups lie one after the other, each at a multiple of a stride, and are read where
 * they lie. What varies in length, the sums by value, lies beside them as lists.
 */

import type { SupportSums } from './adapted-tasks.js';
import type { ModelSpec } from '../models/model-spec.js';
import type { EmbeddingTable, NamedTensors } from '../tensors/named-tensors.js';
import { at, int32At } from '../base/arrays.js';

/** How the values of a block are stored, little-endian. Variables of a single value are always float32. */
export const BLOCK_ENCODINGS = ['float32', 'float16'] as const;

export type BlockEncoding = (typeof BLOCK_ENCODINGS)[number];

/** Where an own variable lies in every block. */
export interface BlockPart {
  readonly name: string;
  readonly shape: readonly number[];
  readonly encoding: BlockEncoding;
  /** A multiple of 16, but for variables of a single value. */
  readonly byteOffset: number;
}

export interface BlockLayout {
  readonly encoding: BlockEncoding;
  /** Own variables in the order of the spec. */
  readonly parts: readonly BlockPart[];
  /** Bytes from one block to the next: a multiple of 64. */
  readonly strideByteCount: number;
}

/** Lists of each block, one for every feature that the lists are of: list `block * featureCount + feature`. */
export interface ValueLists {
  readonly features: readonly string[];
  /** `[blockCount * featureCount + 1]`: where a list begins in `ids`; the last is their number. */
  readonly offsets: Int32Array;
  /** Encoded values, ascending within a list. */
  readonly ids: Int32Array;
}

interface ValueSums extends ValueLists {
  readonly clicks: Float64Array;
  readonly impressions: Float64Array;
}

/** The rows that each block rests on, `[blockCount]`. */
export interface BlockEvidence {
  /** Rows that the block rests on: those that it has stepped on, or that its start was made of. */
  readonly supportRowCounts: Uint32Array;
  /** Sums over those rows. For labels that are values, clicks are the weighted standardised values. */
  readonly clicks: Float64Array;
  readonly impressions: Float64Array;
  /** The sums by value that target encodings read; null if the model has none. */
  readonly byValue: ValueSums | null;
  /** Sums by block, where blocks come and go: by feature with a target encoding, sums by id. */
  readonly live?: ReadonlyMap<number, SupportSums['byValue']>;
}

export interface PersonalBlocks {
  readonly layout: BlockLayout;
  readonly blockCount: number;
  /**
   * `[blocksPerShard * strideByteCount]` each, the last one may be shorter: block b is block
   * `b % blocksPerShard` of shard `floor(b / blocksPerShard)`. Each shard begins at a multiple of 64 of
   * its buffer.
   */
  readonly shards: readonly Uint8Array[];
  /** A power of two. */
  readonly blocksPerShard: number;
  readonly evidence: BlockEvidence;
  /** `[blockCount]`: 1 where a block predicts standardised values (loss `squared`), not logits. */
  readonly isOfValues: Uint8Array;
  /** `[blockCount]`: 1 where a block was a micro-batch of its own (`AdaptedTask.isAlone`). */
  readonly isAlone: Uint8Array;
}

export interface RankingModel {
  readonly spec: ModelSpec;
  /** All dense variables. Personal ones as all tasks share them, of which a method makes the start of each. */
  readonly dense: NamedTensors;
  /** By feature, as the spec lists them. */
  readonly tables: ReadonlyMap<string, EmbeddingTable>;
  readonly blocks: PersonalBlocks;
}

interface SoughtValue {
  readonly block: number;
  /** The place of the feature among those that the lists are of. */
  readonly feature: number;
  readonly id: number;
}

/** The entry of a value in its list; -1 if it is not there. */
export function placeOfId(
  { features, offsets, ids }: ValueLists,
  { block, feature, id }: SoughtValue,
): number {
  const list = block * features.length + feature;
  const end = at(offsets, list + 1);
  let low = at(offsets, list);
  let high = end;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (int32At(ids, middle) < id) low = middle + 1;
    else high = middle;
  }
  return low < end && int32At(ids, low) === id ? low : -1;
}
