/**
 * The hash bucket of a text: 1 + (last eight bytes of its MD5, little-endian) mod (buckets - 1).
 * MD5 is computed here because a call of `node:crypto` costs more than the digest of a short text.
 */

import { int32At, uint8At } from '../base/arrays.js';
import { FIRST_ID } from './encoding-rules.js';

/** The shifts of the second, third and fourth round; those of the first are 7, 12, 17, 22. */
const SHIFTS = Int32Array.of(5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21);
const CONSTANTS = Int32Array.from({ length: 64 }, (_, round) =>
  Math.floor(Math.abs(Math.sin(round + 1)) * 2 ** 32),
);
const BLOCK_BYTES = 64;
/** The end of a message: one byte of 0x80, zeros, and eight bytes of the length in bits. */
const PADDING_BYTES_MIN = 9;

const encoder = new TextEncoder();
let bytes = new Uint8Array(4 * BLOCK_BYTES);
const words = new Int32Array(16);
const state = new Int32Array(4);

/** The id of a text among `buckets`. A lone surrogate counts as U+FFFD, as UTF-8 encoders write it. */
export function hashBucketOf(text: string, buckets: number): number {
  digest(text);
  const divisor = buckets - 1;
  // The 64-bit remainder, 16 bits at a time: every product stays below 2^53.
  let remainder = 0;
  for (const word of [int32At(state, 3), int32At(state, 2)]) {
    remainder = (remainder * 65536 + (word >>> 16)) % divisor;
    remainder = (remainder * 65536 + (word & 0xffff)) % divisor;
  }
  return FIRST_ID + remainder;
}

/** Leaves the MD5 of the UTF-8 text in `state`. */
function digest(text: string): void {
  state[0] = 0x67452301;
  state[1] = 0xefcdab89;
  state[2] = 0x98badcfe;
  state[3] = 0x10325476;
  if (isOneBlock(text)) addWords();
  else addBytes(text);
}

/** Writes an ASCII text that fits one block to `words`, with its padding. @returns false if it is another text. */
function isOneBlock(text: string): boolean {
  const { length } = text;
  if (length > BLOCK_BYTES - PADDING_BYTES_MIN) return false;
  let index = 0;
  for (let place = 0; place < 14; place += 1) {
    let word = 0;
    for (let shift = 0; shift < 32 && index < length; shift += 8, index += 1) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) return false;
      word |= unit << shift;
    }
    words[place] = word;
  }
  words[length >> 2] = int32At(words, length >> 2) | (0x80 << (8 * (length & 3)));
  words[14] = 8 * length;
  words[15] = 0;
  return true;
}

function addBytes(text: string): void {
  const byteCount = encode(text);
  const blockCount = Math.ceil((byteCount + PADDING_BYTES_MIN) / BLOCK_BYTES);
  const end = blockCount * BLOCK_BYTES;
  bytes.fill(0, byteCount, end);
  bytes[byteCount] = 0x80;
  const bitCount = byteCount * 8;
  for (let index = 0; index < 6; index += 1)
    bytes[end - 8 + index] = Math.floor(bitCount / 256 ** index) % 256;
  for (let start = 0; start < end; start += BLOCK_BYTES) {
    readWords(start);
    addWords();
  }
}

/** Writes the text to `bytes`, with room for the padding. @returns the length in bytes. */
function encode(text: string): number {
  const byteCountMax = 3 * text.length + BLOCK_BYTES + PADDING_BYTES_MIN;
  if (bytes.length < byteCountMax) bytes = new Uint8Array(2 * byteCountMax);
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (unit > 0x7f) return encoder.encodeInto(text, bytes).written;
    bytes[index] = unit;
  }
  return text.length;
}

function readWords(start: number): void {
  for (let index = 0; index < 16; index += 1) {
    const at = start + 4 * index;
    words[index] =
      uint8At(bytes, at) |
      (uint8At(bytes, at + 1) << 8) |
      (uint8At(bytes, at + 2) << 16) |
      (uint8At(bytes, at + 3) << 24);
  }
}

/** Adds the block in `words`. Four loops, because a loop that looks up what to do takes twice as long. */
function addWords(): void {
  let a = int32At(state, 0);
  let b = int32At(state, 1);
  let c = int32At(state, 2);
  let d = int32At(state, 3);
  for (let step = 0; step < 16; step += 1) {
    const sum = (a + ((b & c) | (~b & d)) + int32At(CONSTANTS, step) + int32At(words, step)) | 0;
    const shift = 7 + 5 * (step & 3);
    a = d;
    d = c;
    c = b;
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
  }
  for (let step = 16; step < 32; step += 1) {
    const word = int32At(words, (5 * step + 1) & 15);
    const sum = (a + ((d & b) | (~d & c)) + int32At(CONSTANTS, step) + word) | 0;
    const shift = int32At(SHIFTS, step & 3);
    a = d;
    d = c;
    c = b;
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
  }
  for (let step = 32; step < 48; step += 1) {
    const word = int32At(words, (3 * step + 5) & 15);
    const sum = (a + (b ^ c ^ d) + int32At(CONSTANTS, step) + word) | 0;
    const shift = int32At(SHIFTS, 4 + (step & 3));
    a = d;
    d = c;
    c = b;
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
  }
  for (let step = 48; step < 64; step += 1) {
    const word = int32At(words, (7 * step) & 15);
    const sum = (a + (c ^ (b | ~d)) + int32At(CONSTANTS, step) + word) | 0;
    const shift = int32At(SHIFTS, 8 + (step & 3));
    a = d;
    d = c;
    c = b;
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
  }
  state[0] = int32At(state, 0) + a;
  state[1] = int32At(state, 1) + b;
  state[2] = int32At(state, 2) + c;
  state[3] = int32At(state, 3) + d;
}
