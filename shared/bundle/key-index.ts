/**
 * The hash index of adgroup keys: open addressing with linear probing over a power of two of slots, at
 * most half of them taken. A slot holds the 64-bit hash of a key and the block of its adgroup; block 0,
 * that of unknown adgroups, marks an empty slot. The first slot of a hash is
 *
 *   ((low xor high) * 0x9e3779b1 mod 2^32) >> (32 - log2(slotCount))
 *
 * The keys themselves are kept, one after the other by block, so that an unknown key with the hash of a
 * known one is still unknown.
 */

import { int32At, uint32At, uint8At } from '../base/arrays.js';
import { QianmoError, errorOf } from '../base/errors.js';

export interface KeyIndexArrays {
  /** Low and high word of the hash by slot, `[slotCount, 2]`. */
  readonly hashes: Uint32Array;
  /** `[slotCount]`; 0 where the slot is empty. */
  readonly blocks: Int32Array;
  /** UTF-8 texts of all keys in the order of their blocks. */
  readonly keyBytes: Uint8Array;
  /**
   * Where the key of each block begins, and the end: `[blockCount + 1]`. That of block 0 is empty. An adgroup that has changed
   * has several blocks, the last of which is its own.
   */
  readonly keyOffsets: Uint32Array;
}

/** The block of adgroups that the bundle does not know. */
export const UNKNOWN_BLOCK = 0;

/** Keys of more bytes altogether would not fit a file of the bundle. */
const KEY_BYTE_COUNT_MAX = 2 ** 30;
const SLOT_COUNT_MIN = 16;

/** UTF-8 texts of keys in the order of their blocks, from block 0 on. */
type KeyTexts = Pick<KeyIndexArrays, 'keyBytes' | 'keyOffsets'>;

/**
 * @param keys of blocks that follow each other, from block 1 on.
 * @param before the keys of earlier blocks, behind which the keys follow. A key that is among them leads to its new block.
 * @throws QianmoError of kind `data` if a key is there twice, if two have one hash, or if there are too many bytes of keys.
 */
export function buildKeyIndex(
  keys: readonly string[],
  before: KeyTexts = { keyBytes: new Uint8Array(), keyOffsets: new Uint32Array(2) },
): KeyIndexArrays {
  const texts = joinKeys(keys, before);
  return { ...texts, ...filledSlots(texts, before.keyOffsets.length - 1) };
}

function joinKeys(keys: readonly string[], before: KeyTexts): KeyTexts {
  const first = before.keyOffsets.length - 1;
  const keyOffsets = new Uint32Array(first + keys.length + 1);
  keyOffsets.set(before.keyOffsets);
  let byteCount = before.keyBytes.length;
  for (const [place, key] of keys.entries()) {
    byteCount += Buffer.byteLength(key);
    if (byteCount > KEY_BYTE_COUNT_MAX) throw tooManyBytes(keyOffsets.length - 2);
    keyOffsets[first + place + 1] = byteCount;
  }
  const keyBytes = Buffer.alloc(byteCount);
  keyBytes.set(before.keyBytes);
  for (const [place, key] of keys.entries())
    keyBytes.write(key, uint32At(keyOffsets, first + place));
  return { keyBytes, keyOffsets };
}

function tooManyBytes(keyCount: number): QianmoError {
  return errorOf('data', 'the keys of the adgroups have too many bytes for one bundle', {
    expected: `at most ${KEY_BYTE_COUNT_MAX} bytes`,
    found: `more in ${keyCount} keys`,
    cure: 'name tasks by shorter columns in data.task',
  });
}

function filledSlots(texts: KeyTexts, firstNew: number): Pick<KeyIndexArrays, 'hashes' | 'blocks'> {
  const { keyBytes, keyOffsets } = texts;
  const blockCount = keyOffsets.length - 1;
  const slotCount = slotCountOf(blockCount);
  const hashes = new Uint32Array(2 * slotCount);
  const blocks = new Int32Array(slotCount);
  for (let block = 1; block < blockCount; block += 1) {
    const key = keyBytes.subarray(uint32At(keyOffsets, block), uint32At(keyOffsets, block + 1));
    const hash = keyHashOf(key);
    let slot = firstSlotOf(hash, slotCount);
    for (; int32At(blocks, slot) !== UNKNOWN_BLOCK; slot = (slot + 1) & (slotCount - 1))
      if (isAt(hashes, slot, hash)) {
        const earlier = int32At(blocks, slot);
        if (earlier >= firstNew || !isKeyOf(texts, earlier, key)) throw alikeKeys(key);
        break;
      }
    blocks[slot] = block;
    hashes[2 * slot] = hash.low;
    hashes[2 * slot + 1] = hash.high;
  }
  return { hashes, blocks };
}

/** Two keys of a million have one hash in one of forty million bundles. */
function alikeKeys(key: Uint8Array): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'two adgroups of the task store have the same key, or keys with one hash',
    expected: 'a key of its own for every adgroup',
    found: Buffer.from(key).toString(),
    cure: 'prepare the store again with `qianmo prepare --force`, or give this adgroup another key',
  });
}

/** The smallest power of two with at least two slots for every block. */
export function slotCountOf(blockCount: number): number {
  let slotCount = SLOT_COUNT_MIN;
  while (slotCount < 2 * blockCount) slotCount *= 2;
  return slotCount;
}

function firstSlotOf({ low, high }: KeyHash, slotCount: number): number {
  return Math.imul(low ^ high, 0x9e3779b1) >>> (Math.clz32(slotCount) + 1);
}

function isAt(hashes: Uint32Array, slot: number, { low, high }: KeyHash): boolean {
  return uint32At(hashes, 2 * slot) === low && uint32At(hashes, 2 * slot + 1) === high;
}

/** The blocks that the index leads to, ascending. Others are those of adgroups that have changed since. */
export function liveBlocks({ blocks }: Pick<KeyIndexArrays, 'blocks'>): Int32Array {
  return blocks.filter((block) => block !== UNKNOWN_BLOCK).sort();
}

/** The block of an adgroup by its key, 0 if the bundle does not know it. */
export function blockOfKey(index: KeyIndexArrays, key: string): number {
  const bytes = Buffer.from(key);
  const block = blockOfHash(index, keyHashOf(bytes));
  return block !== UNKNOWN_BLOCK && isKeyOf(index, block, bytes) ? block : UNKNOWN_BLOCK;
}

function blockOfHash({ hashes, blocks }: KeyIndexArrays, hash: KeyHash): number {
  const slotCount = blocks.length;
  let slot = firstSlotOf(hash, slotCount);
  for (let probed = 0; probed < slotCount; probed += 1) {
    const block = int32At(blocks, slot);
    if (block === UNKNOWN_BLOCK || isAt(hashes, slot, hash)) return block;
    slot = (slot + 1) & (slotCount - 1);
  }
  return UNKNOWN_BLOCK;
}

function isKeyOf({ keyBytes, keyOffsets }: KeyTexts, block: number, key: Uint8Array): boolean {
  const start = uint32At(keyOffsets, block);
  if (uint32At(keyOffsets, block + 1) - start !== key.length) return false;
  for (let place = 0; place < key.length; place += 1)
    if (uint8At(keyBytes, start + place) !== uint8At(key, place)) return false;
  return true;
}

interface KeyHash {
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

/**
 * The 64-bit hash of an adgroup's key: FNV-1a (Fowler, Noll and Vo) over the bytes of its UTF-8 text,
 *
 *   h = 0xcbf29ce484222325;  for each byte b:  h = (h xor b) * 0x100000001b3 mod 2^64
 *
 * in two words of 32 bits. A client may send it in place of the key, and accepts that an unknown key may collide.
 */
export function keyHashOf(key: Uint8Array): KeyHash {
  let low = BASIS_LOW;
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
