/**
 * A short digest of bytes at a small part of the cost of hashing them. It tells apart what differs by chance: with
 * a probability of 2^-64, words that differ in one lane alone go unnoticed. Two arrays of one sketch can be made on
 * purpose, so it names only what nobody forges.
 */

import { createHash } from 'node:crypto';
import { nativeRows } from './native-rows.js';

/** Lanes take words in turn, so that the native loop computes them side by side. */
const LANE_COUNT = 16;
const BLOCK_BYTE_COUNT = LANE_COUNT * Uint32Array.BYTES_PER_ELEMENT;
/** 2^32 over the golden ratio, odd, so that no word is lost in a product (Knuth, section 6.4). */
const MULTIPLIER = 0x9e3779b1;
const ROTATION = 15;
const WORD_BITS = 32;
/** Sets the digests apart from those of bytes that look like a sketch. */
const DOMAIN = 'sketch of 16 lanes';

/** SHA-256 over the sketch and the number of bytes, in hexadecimal digits. */
export function sketchDigestOf(bytes: Uint8Array): string {
  const size = new Float64Array([bytes.byteLength]);
  return createHash('sha256').update(DOMAIN).update(size).update(sketchOf(bytes)).digest('hex');
}

/** The mixture of the words of each lane, and then the sum of the mixtures of each lane. The last block ends with zeros. */
export function sketchOf(bytes: Uint8Array): Uint32Array {
  const lanes = Uint32Array.from({ length: 2 * LANE_COUNT }, (_, place) => place + 1);
  const wholeByteCount = bytes.byteLength - (bytes.byteLength % BLOCK_BYTE_COUNT);
  const addon = nativeRows();
  const add = (blocks: Uint8Array): void => {
    if (addon === null) addBlocks(blocks, lanes);
    else addon.sketch(blocks, lanes);
  };
  if (wholeByteCount > 0) add(bytes.subarray(0, wholeByteCount));
  if (wholeByteCount === bytes.byteLength) return lanes;
  const last = new Uint8Array(BLOCK_BYTE_COUNT);
  last.set(bytes.subarray(wholeByteCount));
  add(last);
  return lanes;
}

/** The loop of the addon. */
function addBlocks(blocks: Uint8Array, lanes: Uint32Array): void {
  // Words lie at multiples of their size.
  const isAligned = blocks.byteOffset % Uint32Array.BYTES_PER_ELEMENT === 0;
  const { buffer, byteOffset, byteLength } = isAligned ? blocks : new Uint8Array(blocks);
  const words = new Uint32Array(buffer, byteOffset, byteLength / Uint32Array.BYTES_PER_ELEMENT);
  for (let lane = 0; lane < LANE_COUNT; lane += 1) {
    let mixture = lanes[lane] ?? 0;
    let sum = lanes[LANE_COUNT + lane] ?? 0;
    for (let place = lane; place < words.length; place += LANE_COUNT) {
      const product = Math.imul(mixture ^ (words[place] ?? 0), MULTIPLIER);
      mixture = (product << ROTATION) | (product >>> (WORD_BITS - ROTATION));
      sum = (sum + mixture) | 0;
    }
    lanes[lane] = mixture;
    lanes[LANE_COUNT + lane] = sum;
  }
}
