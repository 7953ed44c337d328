/**
 * Seeded random streams: the only source of randomness.
 * A stream is named by its seed and purpose and never depends on earlier draws, so any process can
 * reproduce the draws of any other.
 */

import { createHash } from 'node:crypto';
import { at } from './arrays.js';

export interface RandomStream {
  /** Uniform integer in [0, 2^32). */
  uint32(): number;
  /** Uniform in [0, 1) with 53 random bits. */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
  /** Uniform integer in [0, bound). */
  below(bound: number): number;
  /** Shuffles in place (Fisher-Yates) and returns its argument. */
  shuffle<Items extends number[] | Int32Array | Uint32Array>(items: Items): Items;
}

/** xoshiro128** (Blackman and Vigna, 2018), its state taken from SHA-256 of the stream's name. */
export function randomStream(seed: number, ...purpose: (string | number)[]): RandomStream {
  const state = stateFromName(JSON.stringify([seed, ...purpose]));
  let [a, b, c, d] = state;
  let spareNormal: number | null = null;

  const uint32 = (): number => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result >>> 0;
  };
  const uniform = (): number => {
    const high = uint32() >>> 5;
    const low = uint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  };
  // Marsaglia's polar method: two normals for each accepted point of the unit disc.
  const normal = (): number => {
    if (spareNormal !== null) {
      const value = spareNormal;
      spareNormal = null;
      return value;
    }
    for (;;) {
      const x = 2 * uniform() - 1;
      const y = 2 * uniform() - 1;
      const radius = x * x + y * y;
      if (radius >= 1 || radius === 0) continue;
      const scale = Math.sqrt((-2 * Math.log(radius)) / radius);
      spareNormal = y * scale;
      return x * scale;
    }
  };
  const below = (bound: number): number => Math.floor(uniform() * bound);
  const shuffle = <Items extends number[] | Int32Array | Uint32Array>(items: Items): Items => {
    for (let last = items.length - 1; last > 0; last -= 1) {
      const chosen = below(last + 1);
      const kept = at(items, last);
      items[last] = at(items, chosen);
      items[chosen] = kept;
    }
    return items;
  };
  return { uint32, uniform, normal, below, shuffle };
}

function stateFromName(name: string): [number, number, number, number] {
  const digest = createHash('sha256').update(name).digest();
  return [
    digest.readInt32LE(0),
    digest.readInt32LE(4),
    digest.readInt32LE(8),
    digest.readInt32LE(12) | 1,
  ];
}
