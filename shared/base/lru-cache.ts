/** The bounded cache of this program. It evicts the least recently used entries first. */

interface LruBounds {
  readonly countMax?: number;
  /** Bytes held at once, as stated when an entry is put. */
  readonly byteCountMax?: number;
}

interface Entry<Value> {
  readonly value: Value;
  readonly byteCount: number;
}

export class LruCache<Key, Value> {
  readonly #countMax: number;
  readonly #byteCountMax: number;
  /** A map keeps the order of insertion. Every use inserts again, so the first entry is the oldest. */
  readonly #entries = new Map<Key, Entry<Value>>();
  /** The last one of the map; null if it was deleted. */
  #newest: Entry<Value> | null = null;
  #byteCount = 0;

  /** @param bounds at least one of them; a cache without a bound is a leak. */
  constructor({ countMax, byteCountMax }: LruBounds) {
    if (countMax === undefined && byteCountMax === undefined)
      throw new RangeError('a cache needs a bound on its entries or on their bytes');
    if (countMax !== undefined && !(countMax >= 1))
      throw new RangeError(`a cache cannot be bounded by ${countMax} entries`);
    if (byteCountMax !== undefined && !(byteCountMax >= 0))
      throw new RangeError(`a cache cannot be bounded by ${byteCountMax} bytes`);
    this.#countMax = countMax ?? Infinity;
    this.#byteCountMax = byteCountMax ?? Infinity;
  }

  get byteCount(): number {
    return this.#byteCount;
  }

  /** The least recently used first. */
  values(): Value[] {
    return [...this.#entries.values()].map(({ value }) => value);
  }

  /** Counts as a use of the entry. */
  get(key: Key): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    // Deleting and inserting at every use would make V8 rebuild the map again and again. Tables that it has left
    // keep each other alive until the old generation is collected.
    if (entry === this.#newest) return entry.value;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    this.#newest = entry;
    return entry.value;
  }

  /**
   * Puts or replaces an entry and counts as its use. An entry that alone exceeds the bound on bytes
   * is not kept, and no other entry is evicted for it.
   *
   * @returns the evicted values, the least recently used one first. The caller frees what they
   *   hold. A value that another one replaced is not among them.
   */
  put(key: Key, value: Value, byteCount = 0): Value[] {
    this.delete(key);
    if (byteCount > this.#byteCountMax) return [value];
    this.#newest = { value, byteCount };
    this.#entries.set(key, this.#newest);
    this.#byteCount += byteCount;
    const evicted: Value[] = [];
    for (const [oldest, entry] of this.#entries) {
      if (this.#entries.size <= this.#countMax && this.#byteCount <= this.#byteCountMax) break;
      this.delete(oldest);
      evicted.push(entry.value);
    }
    return evicted;
  }

  delete(key: Key): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    this.#byteCount -= entry.byteCount;
    if (entry === this.#newest) this.#newest = null;
    return this.#entries.delete(key);
  }

  /** Empties the cache and returns what it held, the least recently used first. */
  clear(): Value[] {
    const values = [...this.#entries.values()].map(({ value }) => value);
    this.#entries.clear();
    this.#newest = null;
    this.#byteCount = 0;
    return values;
  }
}
