/**
 * The random numbers of one impression as a pure function of (adgroup's keys, impression number):
 * any chunk of the log can be generated alone, in any order, by any thread.
 */

export const DRAWS = { arrival: 1, user: 2, slot: 3, click: 4 } as const;

const GOLDEN = 0x9e3779b1;
export const UINT32_RANGE = 4294967296;

/** The finaliser of MurmurHash3 (Appleby, public domain): a bijection of 32 bits. */
function mix(bits: number): number {
  let mixed = bits;
  mixed ^= mixed >>> 16;
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** 32 bits that name one impression of an adgroup; distinct for distinct impressions. */
export function impressionBits(firstKey: number, impressionIndex: number): number {
  return mix((firstKey + Math.imul(impressionIndex + 1, GOLDEN)) | 0);
}

/** Uniform integer in [0, 2^32) for one purpose of one impression. */
export function impressionDraw(impression: number, secondKey: number, draw: number): number {
  return mix(((impression ^ secondKey) + Math.imul(draw, GOLDEN)) | 0) >>> 0;
}
