/**
 * The 64-bit hash of an adgroup's key: FNV-1a (Fowler, Noll and Vo) over the bytes of its UTF-8 text,
 *
 *   h = 0xcbf29ce484222325 xor seed;  for each byte b:  h = (h xor b) * 0x100000001b3 mod 2^64
 *
 * in two words of 32 bits. A client may send it in place of the key. The seed is that of the bundle,
 * under which no two of its keys have the same hash; it is 0 but for one bundle in millions.
 */

export interface KeyHash {
  /** The lower 32 bits, unsigned. */
  readonly low: number;
  /** The upper 32 bits, unsigned. */
  readonly high: number;
}

const BASIS_LOW = 0x84222325;
const BASIS_HIGH = 0xcbf29ce4;
/** The prime is 2^40 plus this. */
const PRIME_LOW = 0x1b3;
const WORD = 2 ** 32;

/** @param seed an unsigned number of 32 bits. */
export function keyHashOf(key: Uint8Array, seed: number): KeyHash {
  let low = (BASIS_LOW ^ seed) >>> 0;
  let high = BASIS_HIGH;
  for (const byte of key) {
    low = (low ^ byte) >>> 0;
    // Below 2^41, so exact in a double.
    const product = low * PRIME_LOW;
    high = (Math.imul(high, PRIME_LOW) + (low << 8) + Math.floor(product / WORD)) >>> 0;
    low = product >>> 0;
  }
  return { low, high };
}
