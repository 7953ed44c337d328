/** The personal blocks of a model as arrays of a graph: one for each variable, `[blockCount, ...]`. */

import { at } from '../../../shared/base/arrays.js';
import type {
  BlockEncoding,
  PersonalBlocks,
  ValueLists,
} from '../../../shared/bundle/ranking-model.js';
import { BYTES_PER_ELEMENT, type ElementType, type GraphArray } from './scoring-graph.js';

/** Blocks of one piece. */
const BLOCKS_PER_PIECE = 4_096;

const TYPE_OF: Readonly<Record<BlockEncoding, ElementType>> = {
  ...{ float32: 'float32', float16: 'float16', int8: 'int8' },
};

export interface BlockArrays {
  readonly values: GraphArray;
  /** `[blockCount, scaleCount]`, of int8; null otherwise. */
  readonly scales: GraphArray | null;
}

/** @throws Error if the blocks have no such variable. */
export function blockArraysOf(blocks: PersonalBlocks, name: string): BlockArrays {
  const part = blocks.layout.parts.find((each) => each.name === name);
  if (part === undefined) throw new Error(`blocks have no variable ${name}`);
  const { encoding, byteOffset, scaleByteOffset, scaleCount, shape } = part;
  const count = shape.reduce((product, extent) => product * extent, 1);
  const type = TYPE_OF[encoding];
  return {
    values: fieldOf(blocks, { name: `blocks/${name}`, type, count, byteOffset }),
    scales:
      encoding === 'int8'
        ? fieldOf(blocks, {
            ...{ name: `blocks/${name}.scale`, type: 'float32', count: scaleCount },
            byteOffset: scaleByteOffset,
          })
        : null,
  };
}

/** `[blockCount, 1]`; null where no shift follows the inner steps. */
export function levelArrayOf(blocks: PersonalBlocks): GraphArray | null {
  const byteOffset = blocks.layout.levelByteOffset;
  if (byteOffset === null) return null;
  return fieldOf(blocks, { name: 'blocks/level', type: 'float32', count: 1, byteOffset });
}

interface BlockField {
  readonly name: string;
  readonly type: ElementType;
  readonly count: number;
  /** In every block. */
  readonly byteOffset: number;
}

function fieldOf(
  { layout, shards, blocksPerShard, blockCount }: PersonalBlocks,
  { name, type, count, byteOffset }: BlockField,
): GraphArray {
  const byteCount = count * BYTES_PER_ELEMENT[type];
  function* pieces(): Iterable<Uint8Array> {
    for (let start = 0; start < blockCount; start += BLOCKS_PER_PIECE) {
      const end = Math.min(blockCount, start + BLOCKS_PER_PIECE);
      const piece = new Uint8Array((end - start) * byteCount);
      for (let block = start; block < end; block += 1) {
        const shard = at(shards, Math.floor(block / blocksPerShard));
        const first = (block % blocksPerShard) * layout.strideByteCount + byteOffset;
        piece.set(shard.subarray(first, first + byteCount), (block - start) * byteCount);
      }
      yield piece;
    }
  }
  return { name, type, shape: [blockCount, count], pieces };
}

export interface EffectArrays {
  readonly feature: string;
  /** `[blockCount, lengthMax]`, -1 in empty places. */
  readonly ids: GraphArray;
  /** `[blockCount, lengthMax]`, 0 in empty places. */
  readonly effects: GraphArray;
}

/** The effects by value as lists of one length for each feature that has any. */
export function effectArraysOf({ effects, blockCount }: PersonalBlocks): EffectArrays[] {
  if (effects === null) return [];
  return effects.features.flatMap((feature, place) => {
    const lists = listsOf(effects, place, blockCount);
    if (lists.lengthMax === 0) return [];
    return {
      feature,
      ids: paddedArray(
        `effects/${feature}.ids`,
        lists,
        (length) => new Int32Array(length).fill(-1),
        effects.ids,
      ),
      effects: paddedArray(
        `effects/${feature}`,
        lists,
        (length) => new Float32Array(length),
        effects.effects,
      ),
    };
  });
}

interface FeatureLists {
  readonly blockCount: number;
  readonly lengthMax: number;
  readonly spanOf: (block: number) => readonly [start: number, end: number];
}

function listsOf(
  { offsets, features }: ValueLists,
  place: number,
  blockCount: number,
): FeatureLists {
  const spanOf = (block: number): [number, number] => {
    const list = block * features.length + place;
    return [at(offsets, list), at(offsets, list + 1)];
  };
  let lengthMax = 0;
  for (let block = 0; block < blockCount; block += 1) {
    const [start, end] = spanOf(block);
    lengthMax = Math.max(lengthMax, end - start);
  }
  return { blockCount, lengthMax, spanOf };
}

function paddedArray<Values extends Int32Array | Float32Array>(
  name: string,
  { blockCount, lengthMax, spanOf }: FeatureLists,
  empty: (length: number) => Values,
  values: Values,
): GraphArray {
  function* pieces(): Iterable<Uint8Array> {
    for (let start = 0; start < blockCount; start += BLOCKS_PER_PIECE) {
      const end = Math.min(blockCount, start + BLOCKS_PER_PIECE);
      const piece = empty((end - start) * lengthMax);
      for (let block = start; block < end; block += 1)
        piece.set(values.subarray(...spanOf(block)), (block - start) * lengthMax);
      yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
    }
  }
  const type = values instanceof Int32Array ? 'int32' : 'float32';
  return { name, type, shape: [blockCount, lengthMax], pieces };
}
