/**
 * Collects the distinct bags of some rows. The rows of an adgroup share its attributes, so that many
 * rows hold few bags, and each bag is pooled once.
 */

import { int32At, numberAt } from '../../../shared/base/arrays.js';

const SLOT_COUNT_FIRST = 64;
const NOBODY = -1;

export class DistinctBags {
  /** Indices of bags by hash, with open addressing. */
  #slots = new Int32Array(SLOT_COUNT_FIRST).fill(NOBODY);
  readonly #hashes: number[] = [];
  /** The place of each bag's first member; after the last bag, the number of all members. */
  readonly #starts: number[] = [0];
  readonly #members: number[] = [];

  get count(): number {
    return this.#hashes.length;
  }

  /** The members of all bags as rows of the pack, bag after bag. */
  get members(): readonly number[] {
    return this.#members;
  }

  sizeOf(index: number): number {
    return numberAt(this.#starts, index + 1) - numberAt(this.#starts, index);
  }

  /** Indices follow first occurrence. Bags are equal if they have the same members in the same order. */
  indexOf(members: readonly number[]): number {
    const hash = hashOf(members);
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    for (;;) {
      const index = int32At(this.#slots, slot);
      if (index === NOBODY) return this.#added(slot, hash, members);
      if (this.#hashes[index] === hash && this.#holds(index, members)) return index;
      slot = (slot + 1) & mask;
    }
  }

  #holds(index: number, members: readonly number[]): boolean {
    const start = numberAt(this.#starts, index);
    if (this.sizeOf(index) !== members.length) return false;
    for (const [place, member] of members.entries())
      if (this.#members[start + place] !== member) return false;
    return true;
  }

  #added(slot: number, hash: number, members: readonly number[]): number {
    const index = this.#hashes.length;
    this.#slots[slot] = index;
    this.#hashes.push(hash);
    for (const member of members) this.#members.push(member);
    this.#starts.push(this.#members.length);
    if (2 * this.count > this.#slots.length) this.#grow();
    return index;
  }

  #grow(): void {
    this.#slots = new Int32Array(2 * this.#slots.length).fill(NOBODY);
    const mask = this.#slots.length - 1;
    for (const [index, hash] of this.#hashes.entries()) {
      let slot = hash & mask;
      while (this.#slots[slot] !== NOBODY) slot = (slot + 1) & mask;
      this.#slots[slot] = index;
    }
  }
}

/** FNV-1a over whole numbers instead of bytes, then its high bits into the low ones. */
function hashOf(members: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const member of members) hash = Math.imul(hash ^ member, 0x01000193);
  return hash ^ (hash >>> 15);
}
