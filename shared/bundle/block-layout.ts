/** Where each personal variable lies in a block. */

import type { ModelSpec } from '../models/model-spec.js';
import { elementCountOf } from '../tensors/named-tensors.js';
import type { BlockEncoding, BlockLayout, BlockPart } from './ranking-model.js';

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
