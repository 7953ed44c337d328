/** Rows of the log as a client sends them: the texts of its columns. */

import { readFileSync } from 'node:fs';
import { at } from '../../shared/base/arrays.js';

export class RawRows {
  readonly #names: readonly string[];
  readonly #lines: readonly string[];

  constructor(path: string) {
    const [head = '', ...lines] = readFileSync(path, 'utf8').trimEnd().split('\n');
    this.#names = head.split(',');
    this.#lines = lines;
  }

  /** @param numbers of rows, the first one of the log being 0. */
  rowsOf(numbers: ArrayLike<number>): readonly Readonly<Record<string, string>>[] {
    return Array.from(numbers, (number) => {
      const texts = at(this.#lines, number).split(',');
      return Object.fromEntries(this.#names.map((name, place) => [name, at(texts, place)]));
    });
  }
}
