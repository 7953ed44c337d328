/**
 * The distinct bags of some rows. Rows of an adgroup share what says what it is, so that many rows
 * hold few bags, each of which is pooled once.
 */

const SLOT_COUNT_FIRST = 64;
const NOBODY = -1;

export class DistinctBags {
  /** By hash, open addressing: the index of a bag. */
  #slots = new Int32Array(SLOT_COUNT_FIRST).fill(NOBODY);
  readonly #hashes: number[] = [];
  /** First member of each bag, and after the last bag the number of all members. */
  readonly #starts: number[] = [0];
  readonly #members: number[] = [];

  get count(): number {
    return this.#hashes.length;
  }

  /** Rows of the pack, bag after bag. */
  get members(): readonly number[] {
    return this.#members;
  }

  sizeOf(index: number): number {
    return (this.#starts[index + 1] ?? 0) - (this.#starts[index] ?? 0);
  }

  /** In order of first occurrence; bags are equal whose members are, in their order. */
  indexOf(members: readonly number[]): number {
    const hash = hashOf(members);
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    for (;;) {
      const index = this.#slots[slot] ?? NOBODY;
      if (index === NOBODY) return this.#added(slot, hash, members);
      if (this.#hashes[index] === hash && this.#holds(index, members)) return index;
      slot = (slot + 1) & mask;
    }
  }

  #holds(index: number, members: readonly number[]): boolean {
    const start = this.#starts[index] ?? 0;
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
