/** Items that are added while a write is under way share the next write. */

import { type QianmoError, errorOf } from '../../../shared/base/errors.js';

/** More than this is refused. */
const WAITING_BYTE_COUNT_MAX = 64 * 2 ** 20;

interface Waiting<Item> {
  readonly item: Item;
  readonly resolve: () => void;
  readonly reject: (failure: unknown) => void;
}

export class GroupedWrites<Item> {
  readonly #write: (items: readonly Item[]) => Promise<void>;
  #waiting: Waiting<Item>[] = [];
  #byteCount = 0;
  #writing: Promise<void> | null = null;

  constructor(write: (items: readonly Item[]) => Promise<void>) {
    this.#write = write;
  }

  /** Resolves when the item is written, or rejects with the failure of its write. */
  add(item: Item, byteCount: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#byteCount + byteCount > WAITING_BYTE_COUNT_MAX) return reject(tooSlow());
      this.#byteCount += byteCount;
      this.#waiting.push({ item, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
  }

  /** Resolves when nothing waits. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      this.#byteCount = 0;
      try {
        await this.#write(group.map(({ item }) => item));
        for (const { resolve } of group) resolve();
      } catch (failure) {
        for (const { reject } of group) reject(failure);
      }
    }
    this.#writing = null;
  }
}

function tooSlow(): QianmoError {
  return errorOf('environment', 'too much waits to be written', {
    expected: `at most ${WAITING_BYTE_COUNT_MAX} bytes`,
    cure: 'send it again later; the disk or Redis is too slow for it',
  });
}
