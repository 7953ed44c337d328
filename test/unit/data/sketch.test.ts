// Sketches tell apart what runs send: other rows, other signs, other orders, other lengths. Seen to fail: without the
// rotation two signs in one lane cancel; without the number of bytes an array with zeros at its end is the shorter one.

import { expect, test } from 'vitest';
import { blobRefOf, sketchedRefOf, verifiedBlob } from '../../../shared/storage/blob-store.js';
import { sketchDigestOf } from '../../../shared/tensors/sketch.js';

const LANES = 16;

function floats(change: (values: Float32Array) => void = () => undefined): Uint8Array {
  const values = Float32Array.from({ length: 4 * LANES + 3 }, (_, place) => Math.sin(place + 1));
  change(values);
  return new Uint8Array(values.buffer);
}

function negate(values: Float32Array, ...places: readonly number[]): void {
  for (const place of places) values[place] = -(values[place] ?? 0);
}

test('arrays that differ have other sketches', () => {
  const arrays = [
    floats(),
    floats((values) => negate(values, 3)),
    floats((values) => negate(values, 3, 3 + LANES)),
    floats((values) => negate(values, 3, 3 + 2 * LANES)),
    floats((values) => values.reverse()),
    floats((values) => values.copyWithin(0, LANES, 2 * LANES)),
    floats((values) => values.fill(0)),
    floats().subarray(0, -1),
    floats().subarray(0, 2 * LANES * 4),
    new Uint8Array(0),
    new Uint8Array(1),
    new Uint8Array(64),
    new Uint8Array(65),
  ];
  const digests = arrays.map(sketchDigestOf);
  expect(new Set(digests).size).toBe(arrays.length);
  expect(arrays.map((bytes) => sketchDigestOf(new Uint8Array(bytes)))).toEqual(digests);
});

test('a blob is whole under its digest or its sketch, and under no other name', () => {
  const bytes = floats();
  const other = floats((values) => negate(values, 60));
  for (const nameOf of [blobRefOf, sketchedRefOf]) {
    expect(verifiedBlob(bytes, nameOf(bytes), 'here')).toBe(bytes);
    expect(() => verifiedBlob(other, nameOf(bytes), 'here')).toThrow('does not match');
  }
});
