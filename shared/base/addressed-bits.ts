/**
 * Random words that are addressed instead of drawn: a word depends on its key and its place alone, so that any
 * part of a large random array can be computed without the rest.
 */

/** The golden ratio times 2^32, as in SplitMix (Steele, Lea and Flood, OOPSLA 2014). */
const STEP = 0x9e3779b1;

/** Uniform integer in [0, 2^32): the finaliser of MurmurHash3 over the key and the place. */
export function wordAt(key: number, place: number): number {
  let word = key ^ Math.imul(place + 1, STEP);
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return (word ^ (word >>> 16)) >>> 0;
}
