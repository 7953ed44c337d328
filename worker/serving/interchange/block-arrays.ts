/** The personal blocks of a model as arrays of a graph: one for each variable, `[blockCount, ...]`. */

import { at } from '../../../shared/base/arrays.js';
import {
  supportFormulasOf,
  type SupportFormulas,
  type SupportInputs,
} from '../../../shared/models/kinds/support-inputs.js';
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

interface BlockArrays {
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

/** What a value of a category adds to a row, by block: lists of one length. */
export interface ListArrays {
  readonly feature: string;
  /** `[blockCount, lengthMax]`, -1 in empty places. */
  readonly ids: GraphArray;
  /** `[blockCount, lengthMax]`, 0 in empty places. */
  readonly values: GraphArray;
}

/** Features whose lists are all empty are left out. */
export function effectArraysOf({ effects, blockCount }: PersonalBlocks): ListArrays[] {
  if (effects === null) return [];
  return listArraysOf('effects', effects, { blockCount, values: effects.effects });
}

/**
 * @param group names the arrays.
 * @param of a value for each entry of the lists.
 */
function listArraysOf(
  group: string,
  lists: ValueLists,
  of: { readonly blockCount: number; readonly values: Float32Array },
): ListArrays[] {
  return lists.features.flatMap((feature, place) => {
    const spans = spansOf(lists, place, of.blockCount);
    if (spans.lengthMax === 0) return [];
    const name = `${group}/${feature}`;
    const emptyIds = (length: number): Int32Array => new Int32Array(length).fill(-1);
    return {
      feature,
      ids: paddedArray(`${name}.ids`, spans, emptyIds, lists.ids),
      values: paddedArray(name, spans, (length) => new Float32Array(length), of.values),
    };
  });
}

/** The support inputs of a model, which the evidence of a block decides. */
export interface SupportArrays {
  /** `[blockCount, 1]` each, by name. */
  readonly ofBlocks: ReadonlyMap<string, GraphArray>;
  /** Target encodings; 0 for a value that a block has not seen. */
  readonly ofValues: readonly ListArrays[];
}

export function supportArraysOf(blocks: PersonalBlocks, inputs: SupportInputs): SupportArrays {
  const { blockCount, evidence, isOfValues } = blocks;
  const [ofClicks, ofValues] = [supportFormulasOf(inputs, false), supportFormulasOf(inputs, true)];
  const formulasOf = (block: number): SupportFormulas =>
    at(isOfValues, block) === 1 ? ofValues : ofClicks;
  const meanOf = (block: number): number =>
    formulasOf(block).meanOf({
      clicks: at(evidence.clicks, block),
      impressions: at(evidence.impressions, block),
    });
  const column = (of: (block: number) => number): Float32Array =>
    Float32Array.from({ length: blockCount }, (_, block) => of(block));
  const rates = column((block) => formulasOf(block).clickRate(meanOf(block)));
  const counts = column((block) => formulasOf(block).count(at(evidence.impressions, block)));
  const { byValue } = evidence;
  return {
    ofBlocks: new Map([
      ['support.clickRate', wholeArray('support/clickRate', [blockCount, 1], rates)],
      ['support.count', wholeArray('support/count', [blockCount, 1], counts)],
    ]),
    ofValues:
      byValue === null
        ? []
        : listArraysOf('support/target', byValue, {
            blockCount,
            values: encodedValues(byValue, (block, entry) => {
              const sums = {
                clicks: at(byValue.clicks, entry),
                impressions: at(byValue.impressions, entry),
              };
              return formulasOf(block).targetEncoding(sums, meanOf(block));
            }),
          }),
  };
}

function encodedValues(
  { offsets, features, ids }: ValueLists,
  of: (block: number, entry: number) => number,
): Float32Array {
  const values = new Float32Array(ids.length);
  for (let list = 0; list < offsets.length - 1; list += 1)
    for (let entry = at(offsets, list); entry < at(offsets, list + 1); entry += 1)
      values[entry] = of(Math.floor(list / features.length), entry);
  return values;
}

/** An array that is in memory. */
export function wholeArray(
  name: string,
  shape: readonly number[],
  { buffer, byteOffset, byteLength }: Float32Array,
): GraphArray {
  const pieces = (): Uint8Array[] => [new Uint8Array(buffer, byteOffset, byteLength)];
  return { name, type: 'float32', shape, pieces };
}

interface ListSpans {
  readonly blockCount: number;
  readonly lengthMax: number;
  readonly spanOf: (block: number) => readonly [start: number, end: number];
}

function spansOf({ offsets, features }: ValueLists, place: number, blockCount: number): ListSpans {
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
  { blockCount, lengthMax, spanOf }: ListSpans,
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
