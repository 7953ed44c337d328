/**
 * Deltas laid over a full bundle in memory. The blocks of the full bundle stay where they lie, mapped or
 * not; changed and new adgroups have blocks behind them, and the key index leads there. Only what is
 * small (index, keys, evidence) is copied.
 *
 * Blocks of the full bundle keep their numbers. Then come unused numbers up to a multiple of the blocks
 * of a shard, then the changed and new adgroups.
 */

import { at, int32At, spanAt, uint32At } from '../../base/arrays.js';
import { QianmoError } from '../../base/errors.js';
import { blockBytes } from '../block-codec.js';
import { blockOfKey, UNKNOWN_BLOCK, withKeys, type KeyIndexArrays } from '../key-index.js';
import { newArray, type MakeArray, type NumberArrayType } from '../made-arrays.js';
import type { BlockEvidence, PersonalBlocks, ValueLists } from '../ranking-model.js';
import type { LoadedBundle, SelfCheck } from '../read-bundle.js';
import type { LoadedDelta } from './delta-arrays.js';
import { joinedSelfCheck } from './kept-rows.js';

/** The shards are cut so small that the unused numbers are few. */
const BLOCKS_PER_SHARD_MAX = 4096;

/**
 * What a merged bundle has in place of the arrays of the full one. All of it is made anew and refers to no file, so that a
 * thread can make it and hand it over.
 */
export interface MergedParts {
  /** The blocks in the order of a full export of the same store; the first is block 0. */
  readonly order: Int32Array;
  readonly blocks: Omit<PersonalBlocks, 'layout' | 'shards'>;
  /** The last shard of the full bundle, if it had to be filled up, and those of changed and new adgroups. */
  readonly filledShard: Uint8Array | null;
  readonly newShards: readonly Uint8Array[];
  readonly index: KeyIndexArrays;
  readonly labels: Int32Array;
  readonly calibrations: Int32Array;
  readonly selfCheck: SelfCheck;
}

/** A block of a delta that no later delta replaces. */
interface Source {
  readonly delta: LoadedDelta;
  readonly place: number;
}

interface Overlay {
  /** Those behind the blocks of the full bundle, in the order of their numbers. */
  readonly sources: readonly Source[];
  readonly keys: readonly string[];
  readonly order: Int32Array;
  readonly selfCheck: SelfCheck;
  readonly make: MakeArray;
}

/**
 * @param base the full bundle.
 * @param make of the arrays that grow with the bundle.
 * @throws QianmoError of kind `data` if the places, the keys or the self-check rows of a delta contradict the bundle.
 */
export function mergedParts(
  base: LoadedBundle,
  deltas: readonly LoadedDelta[],
  where: string,
  make: MakeArray = newArray,
): MergedParts {
  const { blocks } = base.model;
  const blocksPerShard = Math.min(BLOCKS_PER_SHARD_MAX, blocks.blocksPerShard);
  const firstNew = Math.ceil(blocks.blockCount / blocksPerShard) * blocksPerShard;
  const overlay = overlayOf(base, { deltas, firstNew, make }, where);
  const blockCount = firstNew + overlay.sources.length;
  const joined = joinedBy(overlay, firstNew, blockCount);
  const { order } = overlay;
  return {
    order,
    blocks: {
      ...{ blockCount, blocksPerShard },
      effects: joinedEffects(blocks, overlay, blockCount),
      evidence: joinedEvidence(blocks.evidence, overlay, joined),
      isOfValues: joined(blocks.isOfValues, ({ blocks: of }) => of.isOfValues, Uint8Array),
      isAlone: joined(blocks.isAlone, ({ blocks: of }) => of.isAlone, Uint8Array),
    },
    filledShard: filledShardOf(blocks, blocksPerShard, make),
    newShards: newShardsOf(blocks, overlay, blocksPerShard),
    index: withKeys(base.index, { keys: overlay.keys, firstNew, where, make }),
    labels: joined(base.labels, ({ labels }) => labels, Int32Array),
    calibrations: joined(base.calibrations, ({ calibrations }) => calibrations, Int32Array),
    selfCheck: overlay.selfCheck,
  };
}

/** @param base the bundle that the parts were made of, or another reading of it. */
export function bundleWith(
  base: LoadedBundle,
  { blocks, filledShard, newShards, index, labels, calibrations, selfCheck }: MergedParts,
): LoadedBundle {
  const { layout } = base.model.blocks;
  const cut = cutShardsOf(base.model.blocks, blocks.blocksPerShard);
  const shards = filledShard === null ? cut : [...cut.slice(0, -1), filledShard];
  return {
    ...{ ...base, index, labels, calibrations, selfCheck },
    model: { ...base.model, blocks: { ...blocks, layout, shards: [...shards, ...newShards] } },
  };
}

interface OverlayTerms {
  readonly deltas: readonly LoadedDelta[];
  readonly firstNew: number;
  readonly make: MakeArray;
}

function overlayOf(
  base: LoadedBundle,
  { deltas, firstNew, make }: OverlayTerms,
  where: string,
): Overlay {
  const sources: Source[] = [];
  const numbers = new Map<string, number>();
  // In the full bundle each block has its own number.
  let before: Order = { count: base.model.blocks.blockCount, numberAt: (place) => place };
  let order: Int32Array | null = null;
  let { selfCheck } = base;
  for (const [level, delta] of deltas.entries()) {
    const replaced = new Set<number>();
    // Those of the deltas below the last one are left behind.
    const makeOrder = level === deltas.length - 1 ? make : newArray;
    const next = makeOrder(Int32Array, delta.fullBlockCount).fill(-1);
    next[0] = UNKNOWN_BLOCK;
    for (const [place, key] of delta.keys.entries()) {
      const known = numbers.get(key) ?? blockOfKey(base.index, key);
      if (known !== UNKNOWN_BLOCK) replaced.add(known);
      const number = numbers.get(key) ?? firstNew + sources.length;
      sources[number - firstNew] = { delta, place };
      numbers.set(key, number);
      const wanted = uint32At(delta.places, place);
      if (next[wanted] !== -1) throw contradiction(where, `the place ${wanted} twice or too far`);
      next[wanted] = number;
    }
    const filledOrder = filled(next, before, replaced, where);
    order = filledOrder;
    before = { count: order.length, numberAt: (place) => int32At(filledOrder, place) };
    selfCheck = joinedSelfCheck(selfCheck, delta.selfCheck, { order, replaced }, where);
  }
  order ??= wholeNumbers(before.count);
  return { sources, keys: [...numbers.keys()], order, selfCheck, make };
}

/** From 0 on; a thread that answers requests makes a million of them. */
export function wholeNumbers(count: number): Int32Array<ArrayBuffer> {
  const numbers = new Int32Array(count);
  for (let number = 0; number < count; number += 1) numbers[number] = number;
  return numbers;
}

/** The number of each block below a delta, in the order of a full export. */
interface Order {
  readonly count: number;
  readonly numberAt: (place: number) => number;
}

/** Adgroups that a delta does not change keep the order among themselves. */
function filled(
  next: Int32Array,
  { count, numberAt }: Order,
  replaced: ReadonlySet<number>,
  where: string,
): Int32Array {
  let below = 0;
  const skipReplaced = (): void => {
    do below += 1;
    while (below < count && replaced.has(numberAt(below)));
  };
  skipReplaced();
  for (let place = 1; place < next.length; place += 1)
    if (next[place] === -1) {
      if (below >= count) throw contradiction(where, 'more adgroups than there are');
      next[place] = numberAt(below);
      skipReplaced();
    }
  if (below >= count) return next;
  throw contradiction(where, 'fewer adgroups than there are');
}

function contradiction(where: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a delta contradicts the bundle that it changes',
    where,
    expected: 'each adgroup once, in the order of a full export',
    found,
    cure: 'roll the label back, or export the run in full with `qianmo export`',
  });
}

/** The shards of the full bundle, where they lie, in smaller ones. */
function cutShardsOf({ layout, shards }: PersonalBlocks, blocksPerShard: number): Uint8Array[] {
  const shardByteCount = blocksPerShard * layout.strideByteCount;
  return shards.flatMap((shard) => {
    const cut: Uint8Array[] = [];
    for (let start = 0; start < shard.length; start += shardByteCount)
      cut.push(shard.subarray(start, start + shardByteCount));
    return cut;
  });
}

/** The last of them with room for the unused numbers; null if it is whole. */
function filledShardOf(
  blocks: PersonalBlocks,
  blocksPerShard: number,
  make: MakeArray,
): Uint8Array | null {
  const last = cutShardsOf(blocks, blocksPerShard).at(-1);
  const shardByteCount = blocksPerShard * blocks.layout.strideByteCount;
  if (last === undefined || last.length === shardByteCount) return null;
  const whole = make(Uint8Array, shardByteCount);
  whole.set(last);
  return whole;
}

function newShardsOf(
  { layout: { strideByteCount } }: PersonalBlocks,
  { sources, make }: Overlay,
  blocksPerShard: number,
): Uint8Array[] {
  const shards: Uint8Array[] = [];
  for (let first = 0; first < sources.length; first += blocksPerShard) {
    const ofShard = sources.slice(first, first + blocksPerShard);
    const shard = make(Uint8Array, ofShard.length * strideByteCount);
    for (const [place, source] of ofShard.entries())
      shard.set(blockBytes(source.delta.blocks, source.place), place * strideByteCount);
    shards.push(shard);
  }
  return shards;
}

type Column = Int32Array | Uint32Array | Uint8Array | Float64Array;
type Joined = <Values extends Column>(
  base: Values,
  of: (delta: LoadedDelta) => Values,
  Type: NumberArrayType<Values>,
) => Values;

/** Joins a value for each block. */
function joinedBy({ sources, make }: Overlay, firstNew: number, blockCount: number): Joined {
  return (base, of, Type) => {
    const values = make(Type, blockCount);
    values.set(base);
    for (const [index, { delta, place }] of sources.entries())
      values[firstNew + index] = at<number>(of(delta), place);
    return values;
  };
}

function joinedEvidence(base: BlockEvidence, overlay: Overlay, joined: Joined): BlockEvidence {
  const supportRowCounts = joined(
    base.supportRowCounts,
    ({ blocks }) => blocks.evidence.supportRowCounts,
    Uint32Array,
  );
  const { byValue } = base;
  const sumsOf = ({ blocks }: LoadedDelta): NonNullable<BlockEvidence['byValue']> =>
    demand(blocks.evidence.byValue);
  return {
    supportRowCounts,
    clicks: joined(base.clicks, ({ blocks }) => blocks.evidence.clicks, Float64Array),
    impressions: joined(
      base.impressions,
      ({ blocks }) => blocks.evidence.impressions,
      Float64Array,
    ),
    byValue:
      byValue === null
        ? null
        : {
            ...joinedLists(byValue, sumsOf, overlay, supportRowCounts.length),
            clicks: joinedEntries(byValue.clicks, sumsOf, (of) => of.clicks, overlay),
            impressions: joinedEntries(
              byValue.impressions,
              sumsOf,
              (of) => of.impressions,
              overlay,
            ),
          },
  };
}

function joinedEffects(
  { effects }: PersonalBlocks,
  overlay: Overlay,
  blockCount: number,
): PersonalBlocks['effects'] {
  if (effects === null) return null;
  const of = ({ blocks }: LoadedDelta): NonNullable<PersonalBlocks['effects']> =>
    demand(blocks.effects);
  return {
    ...joinedLists(effects, of, overlay, blockCount),
    effects: joinedEntries(effects.effects, of, (each) => each.effects, overlay),
  };
}

function demand<Value>(value: Value | null): Value {
  if (value === null) throw new Error('a delta has no lists of values');
  return value;
}

/** Where the lists of a block begin and end. */
function listSpan({ features, offsets }: ValueLists, block: number): readonly [number, number] {
  return [
    int32At(offsets, block * features.length),
    int32At(offsets, (block + 1) * features.length),
  ];
}

function joinedLists(
  base: ValueLists,
  listsOf: (delta: LoadedDelta) => ValueLists,
  overlay: Overlay,
  blockCount: number,
): ValueLists {
  const { features } = base;
  const offsets = overlay.make(Int32Array, blockCount * features.length + 1);
  // Unused numbers have empty lists.
  offsets.fill(base.ids.length);
  offsets.set(base.offsets);
  let list = offsets.length - 1 - overlay.sources.length * features.length;
  let end = base.ids.length;
  for (const { delta, place } of overlay.sources) {
    const lists = listsOf(delta);
    for (const feature of features.keys()) {
      const [from, to] = spanAt(lists.offsets, place * features.length + feature);
      end += to - from;
      list += 1;
      offsets[list] = end;
    }
  }
  return { features, offsets, ids: joinedEntries(base.ids, listsOf, ({ ids }) => ids, overlay) };
}

function joinedEntries<
  Lists extends ValueLists,
  Values extends Int32Array | Float32Array | Float64Array,
>(
  base: Values,
  listsOf: (delta: LoadedDelta) => Lists,
  valuesOf: (lists: Lists) => Values,
  { sources, make }: Overlay,
): Values {
  const spans = sources.map(({ delta, place }) => listSpan(listsOf(delta), place));
  const count = spans.reduce((sum, [from, to]) => sum + to - from, base.length);
  // An array of the same type, which TypeScript cannot follow from the constructor.
  const values = make(base.constructor as unknown as NumberArrayType<Values>, count);
  values.set(base);
  let start = base.length;
  for (const [index, { delta }] of sources.entries()) {
    const [from, to] = at(spans, index);
    values.set(valuesOf(listsOf(delta)).subarray(from, to), start);
    start += to - from;
  }
  return values;
}
