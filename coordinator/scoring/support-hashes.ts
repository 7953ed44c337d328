/** A number for the support rows of each task, by which evaluations that adapted on other rows are told apart. */

import { at, spanAt } from '../../shared/base/arrays.js';
import type { FlatRows } from './held-out-rows.js';

/** Offset and prime of FNV-1a with 32 bits (Fowler, Noll and Vo). */
const OFFSET = 0x811c9dc5;
const PRIME = 0x01000193;
const TWO_32 = 2 ** 32;
const HIGH_BITS = 2 ** 21;

/** Hashes of the numbers that the support rows have in the logs, in their order: 53 bits each, `[taskCount]`. */
export function supportHashesOf({
  starts,
  logRows,
}: Pick<FlatRows, 'starts' | 'logRows'>): number[] {
  return Array.from({ length: starts.length - 1 }, (_, task) => {
    const [start, end] = spanAt(starts, task);
    let [low, high] = [OFFSET, PRIME];
    for (let row = start; row < end; row += 1) {
      const number = at(logRows, row);
      low = mixed(low, number % TWO_32);
      high = mixed(high, Math.floor(number / TWO_32) ^ low);
    }
    return (high % HIGH_BITS) * TWO_32 + low;
  });
}

function mixed(hash: number, word: number): number {
  return Math.imul(hash ^ word, PRIME) >>> 0;
}
