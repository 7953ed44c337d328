/** Candidates in the order of their values. */

import { float64At, int32At, uint32At } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { keyHashOf } from '../../../shared/bundle/key-index.js';
import { isSameText } from '../candidate-columns.js';
import type { Estimates, ServedBundle } from './served-bundle.js';
import type { RankingBody } from './ranking-body.js';
import { RefusedRequest } from './refused-request.js';

const SLOTS_PER_CANDIDATE = 4;

let slots = new Int32Array(0);

/**
 * The first candidate whose adgroup came before, and the one that it came with; null if there is none.
 *
 * @param hashes `[count, 2]`
 * @param isSame whether two candidates with one hash have one key.
 */
function firstRepeated(
  hashes: Uint32Array,
  count: number,
  isSame: (first: number, second: number) => boolean,
): readonly [candidate: number, earlier: number] | null {
  let slotCount = 64;
  while (slotCount < SLOTS_PER_CANDIDATE * count) slotCount *= 2;
  if (slots.length < slotCount) slots = new Int32Array(slotCount);
  else slots.fill(0, 0, slotCount);
  for (let candidate = 0; candidate < count; candidate += 1) {
    const low = uint32At(hashes, 2 * candidate);
    const high = uint32At(hashes, 2 * candidate + 1);
    let slot = (low ^ (high >>> 7)) & (slotCount - 1);
    for (; int32At(slots, slot) !== 0; slot = (slot + 1) & (slotCount - 1)) {
      const earlier = int32At(slots, slot) - 1;
      const isEqual =
        uint32At(hashes, 2 * earlier) === low && uint32At(hashes, 2 * earlier + 1) === high;
      if (isEqual && isSame(earlier, candidate)) return [candidate, earlier];
    }
    slots[slot] = candidate + 1;
  }
  return null;
}

/** Candidates that are ranked. Its arrays are those of the next request, too. */
export interface Ranking {
  readonly estimates: Estimates;
  /** Places of candidates in the request, the most valuable first; those below the reserve are left out. */
  readonly order: Int32Array;
  readonly values: Float64Array;
  /** The seed that broke ties; null if there was none. */
  readonly seed: number | null;
}

/** @throws RefusedRequest if an adgroup comes twice, which would show it twice. */
export function rankingOf(bundle: ServedBundle, body: RankingBody): Ranking {
  const estimates = bundle.estimates(body);
  requireDifferent(estimates, body);
  const { candidateCount } = body;
  const values = grown('values', candidateCount).subarray(0, candidateCount);
  writeValues(estimates, body, values);
  const places = grown('order', candidateCount);
  const found = bundle.addon.order(values, body.reserve, places);
  const order = places.subarray(0, found < 0 ? -1 - found : found);
  const seed = found < 0 ? breakTies(order, values, body, estimates.hashes) : null;
  return { estimates, order, values, seed };
}

const room = {
  values: new Float64Array(512),
  order: new Int32Array(512),
};

function grown<Name extends keyof typeof room>(name: Name, count: number): (typeof room)[Name] {
  if (room[name].length < count)
    Object.assign(room, {
      [name]: name === 'values' ? new Float64Array(count) : new Int32Array(count),
    });
  return room[name];
}

function writeValues(
  { expected, candidateCount }: Estimates,
  { bids, pacings, squash }: RankingBody,
  values: Float64Array,
): void {
  for (let candidate = 0; candidate < candidateCount; candidate += 1) {
    // A value that was predicted below 0 is worth nothing, and has no power.
    const positive = Math.max(0, float64At(expected, candidate));
    const bid = bids === null ? 1 : (bids[candidate] ?? NaN);
    const pacing = pacings === null ? 1 : (pacings[candidate] ?? NaN);
    values[candidate] = pacing * bid * (squash === 1 ? positive : positive ** squash);
  }
}

function requireDifferent({ hashes, candidateCount }: Estimates, { adgroups }: RankingBody): void {
  const repeated = firstRepeated(
    hashes,
    candidateCount,
    (first, second) => adgroups.form === 'hashes' || isSameText(adgroups, first, second),
  );
  if (repeated === null) return;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'an adgroup is among the candidates twice',
    where: `candidate ${repeated[0]}`,
    expected: 'each adgroup once',
    found: `the adgroup of candidate ${repeated[1]}`,
    cure: 'send it once, or use /v1/score, which allows it',
  });
}

/** Puts equal values in an order that the seed decides, and returns the seed if it was asked for one. */
function breakTies(
  order: Int32Array,
  values: Float64Array,
  body: Pick<RankingBody, 'context' | 'seed'>,
  hashes: Uint32Array,
): number | null {
  let seed: number | null = null;
  const count = order.length;
  for (let start = 0; start < count;) {
    const value = float64At(values, int32At(order, start));
    let end = start + 1;
    while (end < count && float64At(values, int32At(order, end)) === value) end += 1;
    if (end - start > 1) {
      seed ??= body.seed ?? seedOf(body.context, hashes);
      // By hash before they are shuffled, so that the order in the request decides nothing.
      const tied = Array.from(order.subarray(start, end)).sort(byHash(hashes));
      order.set(randomStream(seed, 'ties', start).shuffle(tied), start);
    }
    start = end;
  }
  return seed;
}

function byHash(hashes: Uint32Array): (first: number, second: number) => number {
  return (first, second) =>
    uint32At(hashes, 2 * first + 1) - uint32At(hashes, 2 * second + 1) ||
    uint32At(hashes, 2 * first) - uint32At(hashes, 2 * second);
}

/** A seed of the request where it names none: the same request is ranked the same again. */
function seedOf(context: RankingBody['context'], hashes: Uint32Array): number {
  const named = Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1));
  const words = Array.from({ length: hashes.length / 2 }, (_, candidate) => candidate)
    .sort(byHash(hashes))
    .flatMap((candidate) => [uint32At(hashes, 2 * candidate), uint32At(hashes, 2 * candidate + 1)]);
  return keyHashOf(Buffer.from(JSON.stringify([named, words])), 0).low;
}
