/** Blocks written in an encoding, and read back as float32. */

import { at, float32At } from '../base/arrays.js';
import { elementCountOf, type NamedTensors } from '../tensors/named-tensors.js';
import type {
  BlockLayout,
  BlockPart,
  PersonalBlocks,
  BlockEncoding,
  BlockEvidence,
  RankingModel,
  ValueLists,
} from './ranking-model.js';
import type { ModelSpec } from '../models/model-spec.js';
import type { AdaptedTask, SupportSums, TaskShift } from './adapted-tasks.js';

const INT8_MAX = 127;

/** The personal variables of one adgroup, before or after encoding. */
interface BlockValues {
  readonly variables: NamedTensors;
  /** 0 where no shift follows the inner steps. */
  readonly level: number;
}

interface BlockTarget {
  readonly layout: BlockLayout;
  /** Block 0's values by personal variable. */
  readonly initial: NamedTensors;
}

/** Writes a block into its `strideByteCount` bytes. */
export function writeBlock(
  { layout, initial }: BlockTarget,
  { variables, level }: BlockValues,
  target: Uint8Array,
): void {
  if (target.length !== layout.strideByteCount)
    throw new RangeError(`a block has ${layout.strideByteCount} bytes, not ${target.length}`);
  const view = viewOf(target);
  target.fill(0);
  if (layout.levelByteOffset !== null) view.setFloat32(layout.levelByteOffset, level, true);
  for (const part of layout.parts)
    writePart(view, part, valuesOf(variables, part), valuesOf(initial, part));
}

/** The values that a scorer reads. */
export function readBlock({ layout, initial }: BlockTarget, source: Uint8Array): BlockValues {
  const view = viewOf(source);
  const variables = new Map(
    layout.parts.map((part) => [
      part.name,
      { shape: part.shape, values: readPart(view, part, valuesOf(initial, part)) },
    ]),
  );
  const { levelByteOffset } = layout;
  return {
    variables,
    level: levelByteOffset === null ? 0 : view.getFloat32(levelByteOffset, true),
  };
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

function writePart(
  view: DataView,
  part: BlockPart,
  values: Float32Array,
  initial: Float32Array,
): void {
  const { encoding, byteOffset } = part;
  switch (encoding) {
    case 'float32':
      for (let index = 0; index < values.length; index += 1)
        view.setFloat32(byteOffset + 4 * index, float32At(values, index), true);
      return;
    case 'float16':
      for (let index = 0; index < values.length; index += 1)
        view.setUint16(byteOffset + 2 * index, halfBitsOf(float32At(values, index)), true);
      return;
    case 'int8':
      writeDifferences(view, part, values, initial);
  }
}

function writeDifferences(
  view: DataView,
  { byteOffset, scaleByteOffset, scaleCount }: BlockPart,
  values: Float32Array,
  initial: Float32Array,
): void {
  const scaledCount = values.length / scaleCount;
  const differenceAt = (index: number): number =>
    float32At(values, index) - float32At(initial, index);
  for (let row = 0; row < scaleCount; row += 1) {
    const end = (row + 1) * scaledCount;
    let largest = 0;
    for (let index = end - scaledCount; index < end; index += 1)
      largest = Math.max(largest, Math.abs(differenceAt(index)));
    const scale = Math.fround(largest / INT8_MAX);
    view.setFloat32(scaleByteOffset + 4 * row, scale, true);
    if (scale === 0) continue;
    for (let index = end - scaledCount; index < end; index += 1) {
      const steps = Math.round(differenceAt(index) / scale);
      view.setInt8(byteOffset + index, Math.max(-INT8_MAX, Math.min(INT8_MAX, steps)));
    }
  }
}

function readPart(view: DataView, part: BlockPart, initial: Float32Array): Float32Array {
  const { encoding, byteOffset, scaleByteOffset, scaleCount } = part;
  const values = new Float32Array(elementCountOf(part.shape));
  const scaledCount = values.length / scaleCount;
  for (let index = 0; index < values.length; index += 1) {
    if (encoding === 'float32') values[index] = view.getFloat32(byteOffset + 4 * index, true);
    else if (encoding === 'float16')
      values[index] = valueOfHalf(view.getUint16(byteOffset + 2 * index, true));
    else {
      const row = Math.floor(index / scaledCount);
      const scale = view.getFloat32(scaleByteOffset + 4 * row, true);
      values[index] = at(initial, index) + scale * view.getInt8(byteOffset + index);
    }
  }
  return values;
}

function valuesOf(tensors: NamedTensors, { name, shape }: BlockPart): Float32Array {
  const values = tensors.get(name)?.values;
  if (values?.length !== elementCountOf(shape))
    throw new Error(`a block has no variable ${name} [${shape.join(', ')}]`);
  return values;
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

const PART_ALIGNMENT = 16;
const STRIDE_ALIGNMENT = 64;
const FLOAT32_BYTE_COUNT = 4;

const BYTES_PER_VALUE: Readonly<Record<BlockEncoding, number>> = {
  float32: FLOAT32_BYTE_COUNT,
  float16: 2,
  int8: 1,
};

/**
 * The scalars of a block lie first: scales, the level, variables of one value. The other variables
 * follow, each at a multiple of 16.
 */
export function blockLayoutOf(
  { variables }: Pick<ModelSpec, 'variables'>,
  { encoding, hasLevel }: { readonly encoding: BlockEncoding; readonly hasLevel: boolean },
): BlockLayout {
  const personal = variables.filter(({ block }) => block === 'personal');
  const isScalar = ({ shape }: { readonly shape: readonly number[] }): boolean =>
    elementCountOf(shape) === 1;
  let end = 0;
  const take = (byteCount: number): number => {
    const start = end;
    end += byteCount;
    return start;
  };
  const levelByteOffset = hasLevel ? take(FLOAT32_BYTE_COUNT) : null;
  const scalarOffsets = new Map<string, number>();
  const hasScale = encoding === 'int8';
  for (const variable of personal)
    if (isScalar(variable) || hasScale) scalarOffsets.set(variable.name, take(FLOAT32_BYTE_COUNT));
  const parts = personal.map((variable): BlockPart => {
    const { name, shape } = variable;
    const scalarOffset = scalarOffsets.get(name) ?? 0;
    if (isScalar(variable))
      return {
        ...{ name, shape, encoding: 'float32', byteOffset: scalarOffset },
        ...{ scaleByteOffset: 0, scaleCount: 0 },
      };
    end = roundedUp(end, PART_ALIGNMENT);
    const byteOffset = take(elementCountOf(shape) * BYTES_PER_VALUE[encoding]);
    return {
      ...{ name, shape, encoding, byteOffset },
      ...{ scaleByteOffset: scalarOffset, scaleCount: hasScale ? 1 : 0 },
    };
  });
  const strideByteCount = Math.max(STRIDE_ALIGNMENT, roundedUp(end, STRIDE_ALIGNMENT));
  return { encoding, parts, levelByteOffset, strideByteCount };
}

function roundedUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

export function adaptedTaskOf({ dense, shift, blocks }: RankingModel, block: number): AdaptedTask {
  const { layout, evidence, isOfValues, isAlone } = blocks;
  const { variables, level } = readBlock({ layout, initial: dense }, blockBytes(blocks, block));
  return {
    taskIndex: block,
    loss: at(isOfValues, block) === 1 ? 'squared' : 'binary',
    isAlone: at(isAlone, block) === 1,
    blocks: variables,
    shift: shift === null || layout.levelByteOffset === null ? null : shiftOf(blocks, block, level),
    support: supportOf(evidence, block),
  };
}

function shiftOf({ effects }: PersonalBlocks, block: number, level: number): TaskShift {
  if (effects === null) return { level, effects: [] };
  return { level, effects: mapsOf(effects, block, (entry) => at(effects.effects, entry)) };
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
