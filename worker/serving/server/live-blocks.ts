/** Blocks that adapted while a bundle is served, in place of the bundle's own. */

import { float32At, uint32At } from '../../../shared/base/arrays.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import {
  blockBytes,
  blockLayoutOf,
  readBlock,
  writeBlock,
} from '../../../shared/bundle/block-codec.js';
import type { PersonalBlocks, RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { SupportSums } from '../../../shared/bundle/adapted-tasks.js';
import type { LossKind } from '../../../shared/tasks/task-label.js';
import type { NamedTensors } from '../../../shared/tensors/named-tensors.js';
import type { Scorer } from '../kernel-scorer.js';
import type { RankingRequest } from '../ranking-request.js';

/** The facts of a live block in addition to its values. */
export interface LiveNotes {
  /** The place in the labels of the manifest, and in its calibrations. */
  readonly label: number;
  /** The offset of its calibrated outputs. */
  readonly offset: number;
  /** Rows that the block rests on; 0 where the bundle serves so few rows a block that reads none. */
  readonly supportRows: number;
  readonly clicks: number;
  readonly impressions: number;
}

interface LiveValues {
  readonly variables: NamedTensors;
  readonly loss: LossKind;
  /** The sums that support inputs are made of. */
  readonly support: SupportSums;
}

interface Entry {
  readonly high: number;
  /** In the live model, from 1 on. */
  readonly block: number;
  notes: LiveNotes;
}

/** Candidates of one request that have live blocks, by their places. */
export type LiveCandidates = ReadonlyMap<number, LiveNotes>;

interface Scored {
  readonly hashes: Uint32Array;
  readonly scores: Float32Array;
  readonly variances: Float32Array;
}

const BLOCKS_PER_SHARD = 1_024;
const SCORERS_MAX = 8;

export class LiveBlocks {
  readonly #model: RankingModel;
  readonly #scorerOf: (model: RankingModel, contextFeatures: readonly string[]) => Scorer;
  /** By the low word of the key's hash. */
  readonly #entries = new Map<number, Entry[]>();
  readonly #free: number[] = [];
  /** By the features that requests have in their context. */
  readonly #scorers = new LruCache<string, Scorer>({ countMax: SCORERS_MAX });
  /** By block: the sums by value that its target encodings read. */
  readonly #sumsByValue = new Map<number, SupportSums['byValue']>();
  #live: RankingModel | null = null;
  #blockCount = 1;

  constructor(
    model: RankingModel,
    scorerOf: (model: RankingModel, contextFeatures: readonly string[]) => Scorer,
  ) {
    this.#model = model;
    this.#scorerOf = scorerOf;
  }

  /** @param hash low and high word of the key's hash. */
  put(hash: readonly [number, number], values: LiveValues, notes: LiveNotes): void {
    const entry = this.#entryOf(hash) ?? this.#freshEntry(hash, notes);
    entry.notes = notes;
    const live = this.#grown(entry.block + 1);
    const { blocks } = live;
    writeBlock(blocks.layout, values.variables, blockBytes(blocks, entry.block));
    const { support, loss } = values;
    blocks.evidence.clicks[entry.block] = support.clicks;
    blocks.evidence.impressions[entry.block] = support.impressions;
    blocks.isOfValues[entry.block] = loss === 'squared' ? 1 : 0;
    this.#sumsByValue.set(entry.block, support.byValue);
  }

  remove(hash: readonly [number, number]): void {
    const [low, high] = hash;
    const entries = this.#entries.get(low) ?? [];
    const left = entries.filter((entry) => entry.high !== high);
    for (const { block } of entries)
      if (!left.some((kept) => kept.block === block)) {
        this.#free.push(block);
        this.#sumsByValue.delete(block);
      }
    if (left.length > 0) this.#entries.set(low, left);
    else this.#entries.delete(low);
  }

  /**
   * Writes the scores and variances of candidates that have live blocks over those of the bundle. Null if there are none.
   *
   * @param hashes `[candidateCount, 2]`.
   */
  score(
    request: RankingRequest,
    contextFeatures: readonly string[],
    { hashes, scores, variances }: Scored,
  ): LiveCandidates | null {
    if (this.#entries.size === 0 || this.#live === null) return null;
    const blocks = new Int32Array(request.candidateCount);
    const found = new Map<number, LiveNotes>();
    for (let candidate = 0; candidate < blocks.length; candidate += 1) {
      const entry = this.#entryOf([
        uint32At(hashes, 2 * candidate),
        uint32At(hashes, 2 * candidate + 1),
      ]);
      if (entry === null) continue;
      blocks[candidate] = entry.block;
      found.set(candidate, entry.notes);
    }
    if (found.size === 0) return null;
    const [logits, own] = [new Float32Array(blocks.length), new Float32Array(blocks.length)];
    this.#scorerFor(this.#live, contextFeatures).score({ ...request, blocks }, logits, own);
    for (const candidate of found.keys()) {
      scores[candidate] = float32At(logits, candidate);
      variances[candidate] = float32At(own, candidate);
    }
    return found;
  }

  /**
   * The model and block that score an adgroup with a live block. Null if it has none.
   *
   * @param hash low and high word of the key's hash.
   */
  scoredBy(
    hash: readonly [number, number],
  ): { readonly model: RankingModel; readonly block: number } | null {
    const entry = this.#entryOf(hash);
    return entry === null || this.#live === null ? null : { model: this.#live, block: entry.block };
  }

  /** Frees the scorers; the next request makes others. */
  release(): void {
    for (const scorer of this.#scorers.clear()) scorer.release();
  }

  #entryOf([low, high]: readonly [number, number]): Entry | null {
    return this.#entries.get(low)?.find((entry) => entry.high === high) ?? null;
  }

  #freshEntry([low, high]: readonly [number, number], notes: LiveNotes): Entry {
    const block = this.#free.pop() ?? this.#blockCount++;
    const entry = { high, block, notes };
    this.#entries.set(low, [...(this.#entries.get(low) ?? []), entry]);
    return entry;
  }

  #scorerFor(live: RankingModel, contextFeatures: readonly string[]): Scorer {
    const key = JSON.stringify(contextFeatures);
    const known = this.#scorers.get(key);
    if (known !== undefined) return known;
    const scorer = this.#scorerOf(live, contextFeatures);
    for (const evicted of this.#scorers.put(key, scorer)) evicted.release();
    return scorer;
  }

  /** A model with at least so many blocks; scorers of a smaller one are made anew. */
  #grown(blockCount: number): RankingModel {
    if (this.#live !== null && this.#live.blocks.blockCount >= blockCount) return this.#live;
    const shardCount = Math.ceil(blockCount / BLOCKS_PER_SHARD);
    const layout = blockLayoutOf(this.#model.spec, 'float32');
    const kept = this.#live?.blocks.shards ?? [];
    const shards = Array.from(
      { length: shardCount },
      (_, shard) => kept[shard] ?? new Uint8Array(BLOCKS_PER_SHARD * layout.strideByteCount),
    );
    const count = shardCount * BLOCKS_PER_SHARD;
    const earlier = this.#live?.blocks;
    const clicks = new Float64Array(count);
    const impressions = new Float64Array(count);
    const isOfValues = new Uint8Array(count);
    if (earlier !== undefined) {
      clicks.set(earlier.evidence.clicks);
      impressions.set(earlier.evidence.impressions);
      isOfValues.set(earlier.isOfValues);
    }
    const blocks: PersonalBlocks = {
      ...{ layout, shards, blockCount: count, blocksPerShard: BLOCKS_PER_SHARD },
      evidence: {
        ...{ supportRowCounts: new Uint32Array(count), clicks, impressions },
        ...{ byValue: null, live: this.#sumsByValue },
      },
      ...{ isOfValues, isAlone: new Uint8Array(count) },
    };
    const live = { ...this.#model, blocks };
    const own = this.#model.blocks;
    if (earlier === undefined)
      writeBlock(layout, readBlock(own.layout, blockBytes(own, 0)), blockBytes(blocks, 0));
    this.#live = live;
    this.release();
    return live;
  }
}
