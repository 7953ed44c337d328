// All forms of a request have one answer, and the order of the candidates in the request decides nothing.
// Seen to fail: ties in the order of the request, an absent seed made of the
// keys as they come, ties that are not shuffled, wrong candidates of columns that keep their keys.

import { expect, test } from 'vitest';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { JSON_TYPE, type ReceivedRequest } from '../../../worker/serving/server/endpoint.js';
import { BINARY_TYPE } from '../../../worker/serving/server/ranking-body.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { rankedAnswer } from '../../../worker/serving/server/answer-forms.js';
import type { ServedBundle } from '../../../worker/serving/server/served-bundle.js';
import { binaryAnswer, binaryRequest } from '../../fixtures/serving/binary-request.js';
import { expectSame } from '../../fixtures/expect-same.js';
import { servedBundle, twoBundles } from '../../fixtures/serving/served-export.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const CASES = 150;
const COLUMNS = ['category0', 'category1', 'bag0', 'number0'];

const NO_SERVER = { parameter: '', server: {} as ReceivedRequest['server'] };

const { objects, digests } = await twoBundles();
const addon = await compiledAddon();
/** All bodies in JSON are left to the parser. */
const bundle = await servedBundle(objects, digests[0], { ...addon, scanBody: () => -1 });
const nativeBundle = await servedBundle(objects, digests[0], addon);

interface Candidate {
  readonly adgroup: string;
  readonly bid: number;
  readonly pacing: number;
  readonly features: Readonly<Record<string, unknown>>;
}

interface Drawn {
  readonly common: Readonly<Record<string, unknown>>;
  readonly candidates: readonly Candidate[];
}

function valueOf(random: RandomStream, column: string): unknown {
  if (column === 'number0') return random.below(3);
  const texts = (count: number): string[] =>
    Array.from({ length: count }, () => `${column}-${random.below(8)}`);
  return column === 'bag0' ? texts(random.below(5)) : random.below(5) === 0 ? null : texts(1)[0];
}

function rowOf(random: RandomStream, columns: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(columns.map((column) => [column, valueOf(random, column)]));
}

/** Half of the adgroups are unknown, with few values and bids, so that many are worth the same. */
function drawn(seed: number): Drawn {
  const random = randomStream(seed, 'a request in two forms');
  const shared = COLUMNS.filter(() => random.below(2) === 0);
  const own = COLUMNS.filter((column) => !shared.includes(column));
  const adgroups = random.shuffle([...Array(24).keys()]).slice(0, random.below(20));
  return {
    common: {
      context: { ...rowOf(random, shared), notRead: 'x' },
      ...(random.below(2) === 0 ? { seed: random.uint32() } : {}),
      ...(random.below(2) === 0 ? { squash: random.below(3) / 2 } : {}),
      ...(random.below(3) === 0 ? { reserve: 0.5 } : {}),
    },
    candidates: adgroups.map((number) => ({
      adgroup: `task${number}`,
      bid: random.below(2),
      pacing: 1 + random.below(2),
      features: rowOf(random, own),
    })),
  };
}

interface RankAnswer {
  readonly order: readonly number[];
  readonly seed: number | null;
}

interface Left {
  readonly dropped: readonly unknown[];
}

/** By the parser of JSON alone. */
function answerOf(content: unknown): RankAnswer {
  const body = Buffer.from(JSON.stringify(content));
  return receivedOf(bundle, body, JSON_TYPE, JSON_TYPE) as RankAnswer;
}

/** Texts and numbers as arrays where they are none but those; keys as texts or as hashes. */
function inBinary({ common, candidates }: Drawn, random: RandomStream): Buffer {
  const features = Object.keys(candidates[0]?.features ?? {}).map((name) => {
    const values = candidates.map((each) => each.features[name]);
    if (name === 'number0') return [name, { type: 'float64', values: values as number[] }] as const;
    if (name === 'bag0' || random.below(3) === 0)
      return [name, { type: 'inline', values }] as const;
    const texts = values.map((value) => (value ?? '') as string);
    return [name, { type: 'text', values: texts }] as const;
  });
  return binaryRequest(common, {
    adgroups: candidates.map(({ adgroup }) => adgroup),
    areHashed: random.below(2) === 0,
    bids: candidates.map(({ bid }) => bid),
    pacings: candidates.map(({ pacing }) => pacing),
    features,
  });
}

/** Odd elements make candidates wrong, and are `null` in columns where objects have none. */
function oddly({ common, candidates }: Drawn, random: RandomStream): Drawn {
  const isOdd = (): boolean => random.below(8) === 0;
  const odd = candidates.map((each) => ({
    ...each,
    ...(isOdd()
      ? { adgroup: [7, 1.5, ['a', 1], [], null, `${each.adgroup}x`][random.below(6)] }
      : {}),
    ...(isOdd() ? { bid: [-1, '1', null, 1e13][random.below(4)] } : {}),
    ...(isOdd() ? { features: { ...each.features, odd: [{}, [[1]], 'x'][random.below(3)] } } : {}),
  }));
  return { common, candidates: odd as Candidate[] };
}

/** A column has a value for every candidate. */
function inColumns({ common, candidates }: Drawn): object {
  const names = new Set(candidates.flatMap(({ features }) => Object.keys(features)));
  const features = Object.fromEntries(
    [...names].map((name) => [name, candidates.map((each) => each.features[name] ?? null)]),
  );
  const columnOf = (name: keyof Candidate): unknown[] => candidates.map((each) => each[name]);
  const [adgroup, bid, pacing] = [columnOf('adgroup'), columnOf('bid'), columnOf('pacing')];
  return { ...common, candidates: { adgroup, bid, pacing, features } };
}

/** What a client gets for a body and reads of it. */
function receivedOf(by: ServedBundle, body: Buffer, mediaType: string, accept: string): unknown {
  const request = { bundle: by, bundleFor: () => by, body, mediaType, headers: { accept } };
  const { content, mediaType: type } = rankedAnswer({ ...request, ...NO_SERVER });
  return type === BINARY_TYPE
    ? binaryAnswer(content as Uint8Array)
    : (JSON.parse(content.toString()) as unknown);
}

test('all forms have one answer, by the scanner and by the parser', () => {
  for (let seed = 0; seed < CASES; seed += 1) {
    const request = drawn(seed);
    const { common, candidates } = request;
    const expected = answerOf({ ...common, candidates });
    const random = randomStream(seed, 'forms');
    const types = [JSON_TYPE, BINARY_TYPE];
    const objects = Buffer.from(JSON.stringify({ ...common, candidates }));
    for (const by of [bundle, nativeBundle]) {
      const accept = types[random.below(2)]!;
      expectSame(receivedOf(by, objects, JSON_TYPE, accept), expected, `objects ${seed}`);
      const columns = Buffer.from(JSON.stringify(inColumns(request)));
      expectSame(receivedOf(by, columns, JSON_TYPE, accept), expected, `columns ${seed}`);
      const binary = inBinary(request, random);
      expectSame(receivedOf(by, binary, BINARY_TYPE, accept), expected, `binary ${seed}`);
    }
  }
});

/** Without the words of why candidates are left out; the reason where the request is refused. */
function reasonsOf(content: unknown): unknown {
  try {
    const { dropped = [], ...answer } = receivedOf(
      ...([bundle, Buffer.from(JSON.stringify(content)), JSON_TYPE, JSON_TYPE] as const),
    ) as Readonly<Record<string, unknown>>;
    const left = dropped as readonly Readonly<Record<string, unknown>>[];
    return { ...answer, dropped: left.map(({ candidate, reason }) => [candidate, reason]) };
  } catch (error) {
    if (error instanceof RefusedRequest) return error.refusal.reason;
    throw error;
  }
}

test('wrong candidates of columns are those of objects', () => {
  let droppedCount = 0;
  for (let seed = 0; seed < CASES; seed += 1) {
    const { common, candidates } = oddly(drawn(seed), randomStream(seed, 'odd'));
    const found = reasonsOf(inColumns({ common, candidates }));
    expectSame(found, reasonsOf({ ...common, candidates }), `seed ${seed}`);
    if (typeof found === 'object') droppedCount += (found as Left).dropped.length;
  }
  expect(droppedCount).toBeGreaterThan(CASES / 4);
});

test('the order of the candidates decides nothing', () => {
  let tieCount = 0;
  for (let seed = 0; seed < CASES; seed += 1) {
    const { common, candidates } = drawn(seed);
    const keysOf = (ordered: readonly Candidate[]): { seed: number | null; keys: string[] } => {
      const answer = answerOf({ ...common, candidates: ordered });
      return { seed: answer.seed, keys: answer.order.map((place) => ordered[place]!.adgroup) };
    };
    const places = randomStream(seed, 'another order').shuffle([...candidates.keys()]);
    const first = keysOf(candidates);
    expectSame(keysOf(places.map((place) => candidates[place]!)), first, `seed ${seed}`);
    if (first.seed !== null) tieCount += 1;
  }
  expect(tieCount).toBeGreaterThan(CASES / 4);
});

test('ties favour nobody over many seeds', () => {
  const candidates = ['a', 'b', 'c'].map((adgroup) => ({ adgroup, bid: 0 }));
  const context = Object.fromEntries(COLUMNS.map((column) => [column, column === 'bag0' ? [] : 1]));
  const firsts = [0, 0, 0];
  for (let seed = 0; seed < 600; seed += 1)
    firsts[answerOf({ context, candidates, seed }).order[0]!]! += 1;
  // Binomial with mean 200 and deviation 12.
  for (const count of firsts) expect(Math.abs(count - 200)).toBeLessThan(58);
});
