/** Blocks written in an encoding, and read back as float32. */

import { at } from '../base/arrays.js';
import { elementCountOf, type NamedTensors } from '../tensors/named-tensors.js';
import type {
  BlockLayout,
  BlockPart,
  PersonalBlocks,
  BlockEncoding,
  BlockEvidence,
  ValueLists,
} from './ranking-model.js';
import type { ModelSpec } from '../models/model-spec.js';
import type { AdaptedTask, SupportSums } from './adapted-tasks.js';

/** Writes the variables of an adgroup into the `strideByteCount` bytes of its block. */
export function writeBlock(
  { parts, strideByteCount }: BlockLayout,
  variables: NamedTensors,
  target: Uint8Array,
): void {
  if (target.length !== strideByteCount)
    throw new RangeError(`a block has ${strideByteCount} bytes, not ${target.length}`);
  const view = viewOf(target);
  target.fill(0);
  for (const part of parts) {
    const { name, shape, encoding, byteOffset } = part;
    const values = variables.get(name)?.values;
    if (values?.length !== elementCountOf(shape))
      throw new Error(`a block has no variable ${name} [${shape.join(', ')}]`);
    for (const [index, value] of values.entries())
      if (encoding === 'float32') view.setFloat32(byteOffset + 4 * index, value, true);
      else view.setUint16(byteOffset + 2 * index, halfBitsOf(value), true);
  }
}

/** The values that a scorer reads. */
export function readBlock({ parts }: BlockLayout, source: Uint8Array): NamedTensors {
  const view = viewOf(source);
  const valuesOf = ({ shape, encoding, byteOffset }: BlockPart): Float32Array =>
    Float32Array.from({ length: elementCountOf(shape) }, (_, index) =>
      encoding === 'float32'
        ? view.getFloat32(byteOffset + 4 * index, true)
        : valueOfHalf(view.getUint16(byteOffset + 2 * index, true)),
    );
  return new Map(parts.map((part) => [part.name, { shape: part.shape, values: valuesOf(part) }]));
}

/** The bytes of a block where they lie. */
export function blockBytes(
  { layout, shards, blocksPerShard, blockCount }: PersonalBlocks,
  block: number,
): Uint8Array {
  if (block < 0 || block >= blockCount)
    throw new RangeError(`there is no block ${block} among ${blockCount}`);
  const first = (block % blocksPerShard) * layout.strideByteCount;
  const shard = at(shards, Math.floor(block / blocksPerShard));
  return shard.subarray(first, first + layout.strideByteCount);
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

const PART_ALIGNMENT = 16;
const STRIDE_ALIGNMENT = 64;

const BYTES_PER_VALUE: Readonly<Record<BlockEncoding, number>> = { float32: 4, float16: 2 };

/** Variables of one value lie first. The others follow, each at a multiple of 16. */
export function blockLayoutOf(
  { ownVariables }: Pick<ModelSpec, 'ownVariables'>,
  encoding: BlockEncoding,
): BlockLayout {
  const isScalar = ({ shape }: { readonly shape: readonly number[] }): boolean =>
    elementCountOf(shape) === 1;
  let end = 0;
  const take = (byteCount: number): number => {
    const start = end;
    end += byteCount;
    return start;
  };
  const scalarOffsets = new Map(
    ownVariables
      .filter(isScalar)
      .map(({ name }): [string, number] => [name, take(BYTES_PER_VALUE.float32)]),
  );
  const parts = ownVariables.map(({ name, shape }): BlockPart => {
    const scalarOffset = scalarOffsets.get(name);
    if (scalarOffset !== undefined)
      return { name, shape, encoding: 'float32', byteOffset: scalarOffset };
    end = roundUp(end, PART_ALIGNMENT);
    const byteOffset = take(elementCountOf(shape) * BYTES_PER_VALUE[encoding]);
    return { name, shape, encoding, byteOffset };
  });
  const strideByteCount = Math.max(STRIDE_ALIGNMENT, roundUp(end, STRIDE_ALIGNMENT));
  return { encoding, parts, strideByteCount };
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

export function adaptedTaskOf(blocks: PersonalBlocks, block: number): AdaptedTask {
  const { layout, evidence, isOfValues, isAlone } = blocks;
  return {
    taskIndex: block,
    loss: at(isOfValues, block) === 1 ? 'squared' : 'binary',
    isAlone: at(isAlone, block) === 1,
    blocks: readBlock(layout, blockBytes(blocks, block)),
    support: supportOf(evidence, block),
  };
}

function supportOf({ clicks, impressions, byValue }: BlockEvidence, block: number): SupportSums {
  const sumsOf = (entry: number, from: Pick<BlockEvidence, 'clicks' | 'impressions'>) => ({
    clicks: at(from.clicks, entry),
    impressions: at(from.impressions, entry),
  });
  return {
    ...sumsOf(block, { clicks, impressions }),
    byValue: byValue === null ? [] : mapsOf(byValue, block, (entry) => sumsOf(entry, byValue)),
  };
}

/** The lists of a block, by feature. */
function mapsOf<Value>(
  { features, offsets, ids }: ValueLists,
  block: number,
  valueOf: (entry: number) => Value,
): ReadonlyMap<number, Value>[] {
  return features.map((_, feature) => {
    const list = block * features.length + feature;
    const map = new Map<number, Value>();
    for (let entry = at(offsets, list); entry < at(offsets, list + 1); entry += 1)
      map.set(at(ids, entry), valueOf(entry));
    return map;
  });
}

const LARGEST = 65_504;
/** The least exponent of a number with an implicit leading 1. */
const EXPONENT_MIN = -14;
const FRACTION_BITS = 10;

const bits = new Uint32Array(1);
const single = new Float32Array(bits.buffer);

/** The nearest half-precision number, ties to even, as its 16 bits. */
export function halfBitsOf(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.min(Math.abs(value), LARGEST);
  const exponent = Math.max(EXPONENT_MIN, exponentOf(magnitude));
  const steps = roundedToEven(magnitude * 2 ** (FRACTION_BITS - exponent));
  // A number below the least exponent has no leading 1; one that rounds up to it gets it by carry.
  const lead = exponent - EXPONENT_MIN;
  return sign | (lead * 2 ** FRACTION_BITS + steps);
}

export function valueOfHalf(half: number): number {
  const exponent = (half >> FRACTION_BITS) & 0x1f;
  const fraction = half & 0x3ff;
  const sign = (half & 0x8000) === 0 ? 1 : -1;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  const steps = exponent === 0 ? fraction : fraction + 0x400;
  return sign * steps * 2 ** (Math.max(1, exponent) - 1 + EXPONENT_MIN - FRACTION_BITS);
}

/** Floor of the binary logarithm, as a single-precision number has it. */
function exponentOf(magnitude: number): number {
  single[0] = magnitude;
  return ((bits[0] ?? 0) >>> 23) - 127;
}

function roundedToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
