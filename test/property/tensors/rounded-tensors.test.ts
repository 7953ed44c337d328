/** Rounded tensors: how far a value moves, that the mean stays, and any damage. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import type { NamedTensors } from '../../../shared/tensors/named-tensors.js';
import {
  encodeRounded,
  floatsOf,
  NEAREST,
  ROUNDED_ENCODINGS,
  type Draw,
  type TensorEncoding,
} from '../../../shared/tensors/rounded-tensors.js';
import { decodeTensors } from '../../../shared/tensors/tensor-codec.js';

const encoding = fc.constantFrom(...ROUNDED_ENCODINGS);
/** Magnitudes of all orders, also below the smallest normal float32. */
const float = fc.oneof(
  // Rounding may take larger values to infinity.
  fc.float({ min: -(2 ** 127), max: 2 ** 127, noNaN: true }),
  fc.double({ min: -3, max: 3, noNaN: true }).map(Math.fround),
  fc.constantFrom(0, -0, 1e-45, -1e-42),
);
const values = fc.array(float, { maxLength: 200 }).map((list) => Float32Array.from(list));

function named(list: Float32Array): NamedTensors {
  return new Map([['x', { shape: [list.length], values: list }]]);
}

function drawsOf(seed: number): Draw {
  const stream = randomStream(seed, 'draws');
  return () => stream.uniform();
}

function decoded(list: Float32Array, kind: TensorEncoding, draw: Draw): Float32Array {
  const bytes = encodeRounded(named(list), kind, draw);
  return floatsOf(decodeTensors(bytes, 'here'), kind)?.get('x')?.values ?? new Float32Array();
}

/** The distance of the two values that the value is between, in its encoding. */
function stepAt(list: Float32Array, index: number, kind: TensorEncoding): number {
  if (kind === 'int8') {
    const start = Math.floor(index / 64) * 64;
    const largest = Math.max(...list.subarray(start, start + 64).map(Math.abs));
    return Math.max(largest / 127, 2 ** -142);
  }
  const largest = Math.max(...list.map(Math.abs));
  const smallest = 2 ** (Math.floor(Math.log2(largest)) - 38);
  return Math.max(Math.abs(at(list, index)) * 2 ** -10, smallest, 2 ** -149);
}

/**
 * How far a value moves when it is rounded to 8 bits again: its scale is a 32-bit float, which has few
 * bits below the smallest normal one.
 */
function againMax(value: number): number {
  return Math.abs(value) * 1e-5 + 127 * 2 ** -149;
}

describe('rounding', () => {
  it.each([
    ['to the nearest value, by half a step at most', true],
    ['at random, by less than a step', false],
  ])('moves a value %s', (_, isNearest) => {
    fc.assert(
      fc.property(values, encoding, fc.nat(), (list, kind, seed) => {
        const draw = isNearest ? NEAREST : drawsOf(seed);
        for (const [index, value] of decoded(list, kind, draw).entries()) {
          const bound = stepAt(list, index, kind) * (isNearest ? 0.5 : 1);
          expect(Math.abs(value - at(list, index))).toBeLessThanOrEqual(bound * (1 + 1e-6));
        }
      }),
      { numRuns: 300 },
    );
  });

  it.each(ROUNDED_ENCODINGS)('at random keeps the mean: %s', (kind) => {
    // The first value of a block decides its scale, and the others are no multiples of a step.
    const list = Float32Array.of(1, 0.1234567, -0.1234567, 0.0007, -0.0007, 3.3e-5, -3.3e-5, 2e-8);
    const drawCount = 20_000;
    const uniform = drawsOf(11);
    const sums = new Float64Array(list.length);
    for (let draw = 0; draw < drawCount; draw += 1)
      for (const [index, value] of decoded(list, kind, uniform).entries())
        sums[index] = at(sums, index) + value;
    for (const [index, sum] of sums.entries()) {
      // Five deviations of the mean of draws that are a step apart.
      const tolerance = (5 * 0.5 * stepAt(list, index, kind)) / Math.sqrt(drawCount);
      expect(Math.abs(sum / drawCount - at(list, index))).toBeLessThanOrEqual(tolerance);
    }
  });

  it('gives a value of the encoding itself, whatever the draw', () => {
    fc.assert(
      fc.property(values, encoding, fc.nat(), (list, kind, seed) => {
        const once = decoded(list, kind, NEAREST);
        const draw = kind === 'float16' ? drawsOf(seed) : NEAREST;
        const twice = decoded(once, kind, draw);
        for (const [index, value] of twice.entries())
          expect(Math.abs(value - at(once, index))).toBeLessThanOrEqual(
            kind === 'float16' ? 0 : againMax(at(once, index)),
          );
      }),
      { examples: [[Float32Array.of(1.130147211477965e-41), 'int8', 0]] },
    );
  });

  it('makes the whole scale NaN where a value is not finite', () => {
    fc.assert(
      fc.property(
        fc.array(float, { minLength: 1, maxLength: 64 }),
        fc.nat(),
        fc.constantFrom(NaN, Infinity, -Infinity),
        encoding,
        (list, place, odd, kind) => {
          const spoilt = Float32Array.from(list);
          spoilt[place % list.length] = odd;
          for (const value of decoded(spoilt, kind, NEAREST)) expect(value).toBeNaN();
        },
      ),
    );
  });
});

describe('decoding', () => {
  it('takes float32 as it is, and only the encoding that is asked for', () => {
    fc.assert(
      fc.property(values, encoding, (list, kind) => {
        expect(decoded(list, 'float32', NEAREST)).toEqual(list);
        const rounded = decodeTensors(encodeRounded(named(list), kind, NEAREST), 'here');
        const other = kind === 'int8' ? 'float16' : 'int8';
        expect(floatsOf(rounded, 'float32')).toBeNull();
        expect(floatsOf(rounded, other)).toBeNull();
        expect(floatsOf(rounded)).toEqual(floatsOf(rounded, kind));
      }),
    );
  });

  it('refuses a missing scale, and one of another length or kind', () => {
    fc.assert(
      fc.property(values, encoding, (list, kind) => {
        const coded = decodeTensors(encodeRounded(named(list), kind, NEAREST), 'here');
        const scales = coded.get('x/scale')?.values ?? new Float32Array();
        const withScale = (other: typeof scales): typeof coded =>
          new Map([...coded, ['x/scale', { shape: [other.length], values: other }]]);
        const without = new Map([...coded].filter(([name]) => name === 'x'));
        expect(floatsOf(without)).toBeNull();
        expect(floatsOf(withScale(new Float32Array(scales.length + 1)))).toBeNull();
        expect(floatsOf(withScale(new Float64Array(scales.length)))).toBeNull();
      }),
    );
  });
});
