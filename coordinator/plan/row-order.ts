/**
 * A random order of very many numbers in constant memory: a Feistel network over the smallest power of 4 that holds
 * them is a permutation, and numbers that fall outside go through it again (Black and Rogaway, 2002, "Ciphers with arbitrary finite
 * domains").
 */

import { wordAt } from '../../shared/base/addressed-bits.js';
import { at } from '../../shared/base/arrays.js';
import type { RandomStream } from '../../shared/base/random.js';

const ROUNDS = 4;

/** Returns the number at each place of a permutation of 0 to `count` - 1, for a count of at most 2^52. */
export function randomOrder(count: number, random: RandomStream): (place: number) => number {
  let half = 1;
  while (half * half < count) half *= 2;
  const keys = Array.from({ length: ROUNDS }, () => random.uint32());
  const permuted = (number: number): number => {
    let [left, right] = [Math.floor(number / half), number % half];
    for (let round = 0; round < ROUNDS; round += 1)
      [left, right] = [right, (left + (wordAt(at(keys, round), right) % half)) % half];
    return left * half + right;
  };
  return (place) => {
    let number = permuted(place);
    while (number >= count) number = permuted(number);
    return number;
  };
}
