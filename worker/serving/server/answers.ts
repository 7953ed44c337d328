/** The answers of `rank` and `score`: lists with an element for each candidate, in the order of the request. */

import { at } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { keyHashOf } from '../../../shared/bundle/key-hash.js';
import { RefusedRequest } from './refused-request.js';
import type { RankingBody } from './ranking-body.js';
import type { Estimates, ServedBundle } from './served-bundle.js';

interface ScoreAnswer extends Estimates {
  /** The digest of the bundle that all of the answer comes from. */
  readonly bundle: string;
}

interface RankAnswer extends ScoreAnswer {
  /** Places of candidates in the request, the most valuable first; those below the reserve are left out. */
  readonly order: readonly number[];
  readonly values: readonly number[];
  /** The seed that broke ties; null if there was none. */
  readonly seed: number | null;
}

export function scoreAnswer(bundle: ServedBundle, body: RankingBody): ScoreAnswer {
  return { bundle: bundle.digest, ...bundle.estimates(body) };
}

/** @throws RefusedRequest if an adgroup comes twice, which would show it twice. */
export function rankAnswer(bundle: ServedBundle, body: RankingBody): RankAnswer {
  demandDifferent(body.keys);
  const estimates = bundle.estimates(body);
  const values = estimates.expected.map(
    (expected, candidate) =>
      at(body.pacings, candidate) *
      at(body.bids, candidate) *
      // A value that was predicted below 0 is worth nothing, and has no power.
      Math.max(0, expected) ** body.squash,
  );
  const { order, seed } = ranked(values, body);
  return { order, values, seed, bundle: bundle.digest, ...estimates };
}

function demandDifferent(keys: readonly string[]): void {
  const seen = new Map<string, number>();
  for (const [candidate, key] of keys.entries()) {
    const first = seen.get(key);
    if (first !== undefined)
      throw new RefusedRequest({
        reason: 'wrong-value',
        what: 'an adgroup is among the candidates twice',
        where: `candidate ${candidate}`,
        expected: 'each adgroup once',
        found: `the adgroup of candidate ${first}`,
        cure: 'send it once, or use /v1/score, which allows it',
      });
    seen.set(key, candidate);
  }
}

function ranked(
  values: readonly number[],
  { keys, reserve, seed: given, context }: RankingBody,
): { readonly order: number[]; readonly seed: number | null } {
  const order = [...values.keys()].filter((candidate) => at(values, candidate) >= reserve);
  order.sort((a, b) => at(values, b) - at(values, a));
  let seed: number | null = null;
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && at(values, at(order, end)) === at(values, at(order, start)))
      end += 1;
    if (end - start > 1) {
      seed ??= given ?? seedOf(context, keys);
      // By key before they are shuffled, so that the order in the request decides nothing.
      const tied = order.slice(start, end).sort((a, b) => (at(keys, a) < at(keys, b) ? -1 : 1));
      const shuffled = randomStream(seed, 'ties', start).shuffle(tied);
      for (const [place, candidate] of shuffled.entries()) order[start + place] = candidate;
    }
    start = end;
  }
  return { order, seed };
}

/** A seed of the request where it names none: the same request is ranked the same again. */
function seedOf(context: RankingBody['context'], keys: readonly string[]): number {
  const named = Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1));
  return keyHashOf(Buffer.from(JSON.stringify([named, [...keys].sort()])), 0).low;
}
