/**
 * Entries by key, in the order in which they were put last. A map of the engine keeps an order too, but the first entry of one
 * from whose front many were deleted is found behind the places of all of them.
 */

interface ArrivedEntry<Value> {
  readonly key: string;
  readonly value: Value;
}

interface Node<Value> extends ArrivedEntry<Value> {
  before: Node<Value> | null;
  after: Node<Value> | null;
}

export class ArrivalOrder<Value> {
  readonly #nodes = new Map<string, Node<Value>>();
  #first: Node<Value> | null = null;
  #last: Node<Value> | null = null;

  get size(): number {
    return this.#nodes.size;
  }

  get(key: string): Value | undefined {
    return this.#nodes.get(key)?.value;
  }

  /** The entry that was put before all others; null without any. */
  first(): ArrivedEntry<Value> | null {
    return this.#first;
  }

  /** Puts the entry behind all others. */
  put(key: string, value: Value): void {
    this.delete(key);
    const node = { key, value, before: this.#last, after: null };
    this.#nodes.set(key, node);
    if (this.#last === null) this.#first = node;
    else this.#last.after = node;
    this.#last = node;
  }

  delete(key: string): void {
    const node = this.#nodes.get(key);
    if (node === undefined) return;
    this.#nodes.delete(key);
    if (node.before === null) this.#first = node.after;
    else node.before.after = node.after;
    if (node.after === null) this.#last = node.before;
    else node.after.before = node.before;
  }

  *[Symbol.iterator](): Iterator<readonly [string, Value]> {
    for (let node = this.#first; node !== null; node = node.after) yield [node.key, node.value];
  }
}
