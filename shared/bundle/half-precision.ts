/** IEEE 754 half precision. Values that are too large are stored as the largest finite one. */

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
