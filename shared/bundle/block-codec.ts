/** Blocks written in an encoding, and read back as float32. */

import { at, float32At } from '../base/arrays.js';
import { elementCountOf, type NamedTensors } from '../tensors/named-tensors.js';
import { halfBitsOf, valueOfHalf } from './half-precision.js';
import type { BlockLayout, BlockPart, PersonalBlocks } from './ranking-model.js';

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
