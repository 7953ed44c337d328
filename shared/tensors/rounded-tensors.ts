/**
 * Tensors with fewer bytes for each value. A tensor NAME travels as `NAME/scale` (32-bit floats) and
 * NAME itself, as 16-bit floats or 8-bit integers to be multiplied by their scale (decision 0046).
 */

import { at } from '../base/arrays.js';
import type { DenseTensor, NamedTensors } from './named-tensors.js';
import { encodeTensors, type CodedTensor } from './tensor-codec.js';

export const TENSOR_ENCODINGS = ['float32', 'float16', 'int8'] as const;
export type TensorEncoding = (typeof TENSOR_ENCODINGS)[number];
/** The encodings that lose bits. */
export const ROUNDED_ENCODINGS = ['float16', 'int8'] as const;

/**
 * A number in [0, 1) for each value. A value between two that can be encoded becomes the upper one if its share of the
 * way to it and the draw together reach 1.
 */
export type Draw = () => number;

/** Rounds to the nearest value. */
export const NEAREST: Draw = () => 0.5;

/** The values, in row-major order, that share a scale as integers. */
const INT8_BLOCK_LENGTH = 64;
const INT8_MAX = 127;

const SCALE_SUFFIX = '/scale';

/** Between 2^14 and 2^15, so that a value that is rounded up has a finite encoding. */
const FLOAT16_SCALED_EXPONENT = 14;
const FLOAT16_NORMAL_MIN = 2 ** -14;
const FLOAT16_STEPS_OF_ONE = 2 ** 24;
/** Bits of the fraction of a 32-bit float that a 16-bit float does not have. */
const FRACTION_BITS_LOST = 13;
const DRAWS_OF_FRACTION = 2 ** FRACTION_BITS_LOST;
/** Exponent bias of 32-bit floats less that of 16-bit floats, at the place of the latter's exponent. */
const BIAS_DIFFERENCE = (127 - 15) << 10;

/**
 * Encodes in map order. A tensor or block with a value that is not finite has the scale NaN, so that all of
 * its values are NaN when they are decoded.
 */
export function encodeRounded(
  tensors: NamedTensors,
  encoding: TensorEncoding,
  draw: Draw,
): Uint8Array {
  if (encoding === 'float32') return encodeTensors(tensors);
  const coded = new Map<string, CodedTensor>();
  for (const [name, { shape, values }] of tensors) {
    if (tensors.has(`${name}${SCALE_SUFFIX}`))
      throw new Error(`${name} and its scale need two names, and ${name}${SCALE_SUFFIX} is taken`);
    const { scales, rounded } =
      encoding === 'int8' ? int8Of(values, draw) : float16Of(values, draw);
    coded.set(`${name}${SCALE_SUFFIX}`, { shape: [scales.length], values: scales });
    coded.set(name, { shape, values: rounded });
  }
  return encodeTensors(coded);
}

/**
 * The tensors that were encoded, whichever encoding each has. Tensors of 32-bit floats are those of the
 * argument.
 *
 * @returns null when a scale is missing, too many or of another length, and when a tensor is of another kind.
 */
export function floatsOf(
  coded: ReadonlyMap<string, CodedTensor>,
  encoding?: TensorEncoding,
): Map<string, DenseTensor> | null {
  const found = new Map<string, DenseTensor>();
  for (const [name, { shape, values }] of coded) {
    if (isScale(name, coded)) continue;
    if (encoding !== undefined && encodingOf(values) !== encoding) return null;
    if (values instanceof Float32Array) {
      found.set(name, { shape, values });
      continue;
    }
    const scales = coded.get(`${name}${SCALE_SUFFIX}`)?.values;
    if (!(scales instanceof Float32Array)) return null;
    const decoded = decodedOf(values, scales);
    if (decoded === null) return null;
    found.set(name, { shape, values: decoded });
  }
  return found;
}

function isScale(name: string, coded: ReadonlyMap<string, CodedTensor>): boolean {
  if (!name.endsWith(SCALE_SUFFIX)) return false;
  const of = coded.get(name.slice(0, -SCALE_SUFFIX.length));
  return of !== undefined && !(of.values instanceof Float32Array);
}

function encodingOf(values: CodedTensor['values']): TensorEncoding | null {
  if (values instanceof Float32Array) return 'float32';
  if (values instanceof Uint16Array) return 'float16';
  return values instanceof Int8Array ? 'int8' : null;
}

function decodedOf(values: CodedTensor['values'], scales: Float32Array): Float32Array | null {
  if (values instanceof Int8Array) {
    const blockCount = Math.ceil(values.length / INT8_BLOCK_LENGTH);
    return scales.length === blockCount ? fromInt8(values, scales) : null;
  }
  if (values instanceof Uint16Array)
    return scales.length === 1 ? fromFloat16(values, at(scales, 0)) : null;
  return null;
}

interface Rounded {
  readonly scales: Float32Array;
  readonly rounded: Int8Array | Uint16Array;
}

/** The largest magnitude; NaN when a value is not finite. */
function magnitudeOf(values: Float32Array, start: number, end: number): number {
  let largest = 0;
  for (let index = start; index < end; index += 1) {
    const magnitude = Math.abs(values[index] ?? NaN);
    if (magnitude < Infinity) largest = magnitude > largest ? magnitude : largest;
    else return NaN;
  }
  return largest;
}

function int8Of(values: Float32Array, draw: Draw): Rounded {
  const rounded = new Int8Array(values.length);
  const scales = new Float32Array(Math.ceil(values.length / INT8_BLOCK_LENGTH));
  for (let block = 0; block < scales.length; block += 1) {
    const start = block * INT8_BLOCK_LENGTH;
    const end = Math.min(start + INT8_BLOCK_LENGTH, values.length);
    scales[block] = magnitudeOf(values, start, end) / INT8_MAX;
    const scale = at(scales, block);
    // A block of zeros, or of values too small to have a scale, stays zero.
    if (!(scale > 0)) continue;
    for (let index = start; index < end; index += 1) {
      const value = Math.floor((values[index] ?? NaN) / scale + draw());
      rounded[index] = Math.max(-INT8_MAX, Math.min(INT8_MAX, value));
    }
  }
  return { scales, rounded };
}

function fromInt8(values: Int8Array, scales: Float32Array): Float32Array {
  const decoded = new Float32Array(values.length);
  for (let block = 0; block < scales.length; block += 1) {
    const scale = at(scales, block);
    const start = block * INT8_BLOCK_LENGTH;
    const end = Math.min(start + INT8_BLOCK_LENGTH, values.length);
    for (let index = start; index < end; index += 1)
      decoded[index] = (values[index] ?? NaN) * scale;
  }
  return decoded;
}

/** One power of two scales the whole tensor, so that neither large nor small values leave the range. */
function float16Of(values: Float32Array, draw: Draw): Rounded {
  const rounded = new Uint16Array(values.length);
  const magnitude = magnitudeOf(values, 0, values.length);
  const scales = Float32Array.of(magnitude > 0 ? float16ScaleOf(magnitude) : magnitude);
  const scale = at(scales, 0);
  if (!(scale > 0)) return { scales, rounded };
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  for (let index = 0; index < values.length; index += 1) {
    const scaled = (values[index] ?? NaN) / scale;
    const magnitude = Math.abs(scaled);
    const sign = scaled < 0 ? 0x8000 : 0;
    // Rounding a negative value up makes its magnitude smaller, by less than a step whatever the draw.
    const upwards = sign === 0 ? draw() : Math.max(0, 1 - 2 ** -24 - draw());
    if (magnitude < FLOAT16_NORMAL_MIN) {
      rounded[index] = sign | Math.floor(magnitude * FLOAT16_STEPS_OF_ONE + upwards);
      continue;
    }
    float[0] = magnitude;
    const raised = at(bits, 0) + Math.floor(upwards * DRAWS_OF_FRACTION);
    rounded[index] = sign | ((raised >>> FRACTION_BITS_LOST) - BIAS_DIFFERENCE);
  }
  return { scales, rounded };
}

/** The power of two that brings a magnitude between 2^14 and 2^15. */
function float16ScaleOf(magnitude: number): number {
  const bits = new Uint32Array(Float32Array.of(magnitude).buffer);
  const exponent = (at(bits, 0) >>> 23) - 127;
  return 2 ** (exponent - FLOAT16_SCALED_EXPONENT);
}

function fromFloat16(values: Uint16Array, scale: number): Float32Array {
  const decoded = new Float32Array(values.length);
  const bits = new Uint32Array(decoded.buffer);
  for (let index = 0; index < values.length; index += 1) {
    const half = at(values, index);
    const magnitude = half & 0x7fff;
    if (magnitude < 0x400) decoded[index] = magnitude / FLOAT16_STEPS_OF_ONE;
    else if (magnitude < 0x7c00) bits[index] = (magnitude + BIAS_DIFFERENCE) << FRACTION_BITS_LOST;
    else decoded[index] = NaN;
    decoded[index] = (decoded[index] ?? NaN) * (half < 0x8000 ? scale : -scale);
  }
  return decoded;
}
