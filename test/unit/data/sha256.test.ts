/** Digests of arrays that are larger than what one call of the hash function takes. */

import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { addToHash } from '../../../shared/tensors/sha256.js';

const values = Float32Array.from({ length: 100 }, (_, index) => index / 7);
const bytes = new Uint8Array(values.buffer);

it.each([1, 3, 64, 399, 400, 1000])('does not depend on pieces of %i bytes', (pieceByteCountMax) => {
  const hash = createHash('sha256');
  addToHash(hash, values, pieceByteCountMax);
  expect(hash.digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
});

it('gives no call of the hash function more than a piece', () => {
  const sizes: number[] = [];
  addToHash({ update: (piece) => sizes.push(piece.byteLength) }, values, 150);
  expect(sizes).toEqual([150, 150, 100]);
});
