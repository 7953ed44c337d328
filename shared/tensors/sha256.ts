/** SHA-256 over arrays of any size. One call of the hash function takes less than 2 GiB. */

import { createHash } from 'node:crypto';

const HASH_PIECE_BYTE_COUNT_MAX = 64 * 1024 * 1024;

/** The part of a hash that takes bytes. */
interface ByteSink {
  update(bytes: Uint8Array): unknown;
}

/** Adds the bytes of an array, piece by piece. The digest does not depend on the size of pieces. */
export function addToHash(
  hash: ByteSink,
  { buffer, byteOffset, byteLength }: ArrayBufferView,
  pieceByteCountMax = HASH_PIECE_BYTE_COUNT_MAX,
): void {
  // A view of bytes over the whole array may exceed the largest length of a byte array.
  for (let start = 0; start < byteLength; start += pieceByteCountMax) {
    const pieceByteCount = Math.min(pieceByteCountMax, byteLength - start);
    hash.update(new Uint8Array(buffer, byteOffset + start, pieceByteCount));
  }
}

/** In hexadecimal digits. */
export function sha256Of(values: ArrayBufferView): string {
  const hash = createHash('sha256');
  addToHash(hash, values);
  return hash.digest('hex');
}
