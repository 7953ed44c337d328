/**
 * The layout of binary requests and answers, little-endian:
 *
 *   bytes 0-3    the length of the header (unsigned)
 *   from 4 on    the header: JSON in UTF-8
 *   then         arrays in the order of the header, each from the next multiple of 8 on
 *
 * A column of texts is `[count + 1]` offsets (unsigned, 32 bits) into the bytes that follow them.
 */

export const BINARY_TYPE = 'application/vnd.qianmo.ranking';

export const LENGTH_BYTE_COUNT = 4;
const ALIGNMENT = 8;

export function aligned(place: number): number {
  return Math.ceil(place / ALIGNMENT) * ALIGNMENT;
}
