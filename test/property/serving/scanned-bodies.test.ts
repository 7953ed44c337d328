// What the addon takes apart means what `JSON.parse` says it means, to the bit of every number, and a body
// that is refused is never taken apart. Seen to fail: mantissas beyond 2^53 taken for exact.

import { beforeAll, expect, test } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/serving/scoring-addon.mjs';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { valuesOf } from '../../../worker/serving/columns/candidate-column.js';
import { loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import { BodyScanner } from '../../../worker/serving/server/forms/scanned-body.js';
import { parseRankingBody, type RankingBody } from '../../../worker/serving/server/ranking-body.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { mutatedText } from '../../fixtures/serving/mutated-text.js';

const CASES = 4_000;
const BODIES = [
  {
    context: { city: 'Oslo', tags: ['a', 'b'], n: -0.5 },
    columns: {
      adgroup: ['task1', 'größe'],
      bid: [1.25, 0],
      pacing: [1, 2],
      features: {
        brand: ['x', null],
        price: [1e3, -0.001],
        tags: [['a', null], []],
        odd: [null, null],
      },
    },
    ...{ seed: 3, squash: 0.5, reserve: 0.1, fields: ['order'] },
  },
  { columns: { adgroup: [], features: { brand: [] } } },
  { columns: { adgroup: ['a'], bid: [3] }, context: { __proto__x: 1 } },
  { candidates: [{ adgroup: 'a' }] },
];

let scanner: BodyScanner;
beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
  scanner = new BodyScanner(loadScoringAddon(scoringAddon.path()));
});

function plain({ adgroups, keyTexts, features, bids, pacings, ...rest }: RankingBody): object {
  return {
    ...rest,
    adgroups: valuesOf(adgroups),
    keys: keyTexts(),
    features: [...features].map(([name, column]) => [name, valuesOf(column)]),
    bids: bids === null ? null : Array.from(bids),
    pacings: pacings === null ? null : Array.from(pacings),
  };
}

function parsedOf(body: Buffer): object | null {
  try {
    return plain(parseRankingBody(body));
  } catch (error) {
    if (error instanceof RefusedRequest) return null;
    throw error;
  }
}

/** Spaces, or nothing, between the tokens of JSON. */
function spaced(random: RandomStream, text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|[[\]{}:,]/g, (token) =>
    random.below(6) === 0
      ? `${token}${[' ', '\n', '\t\r', '\u00a0'][random.below(60) === 0 ? 3 : random.below(3)]}`
      : token,
  );
}

test('a scanned body is the parsed one', () => {
  let scannedCount = 0;
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'scanned body');
    const text = JSON.stringify(BODIES[random.below(BODIES.length)]);
    const body = Buffer.from(
      spaced(random, random.below(4) === 0 ? text : mutatedText(random, text)),
    );
    const scanned = scanner.scanned(body);
    if (scanned === null) continue;
    expect(plain(scanned), body.toString()).toEqual(parsedOf(body));
    scannedCount += 1;
  }
  expect(scannedCount).toBeGreaterThan(CASES / 8);
});

function numberText(random: RandomStream): string {
  const digits = (count: number) => Array.from({ length: count }, () => random.below(10)).join('');
  const whole = random.below(8) === 0 ? '0' : `${1 + random.below(9)}${digits(random.below(20))}`;
  const fraction = random.below(2) === 0 ? '' : `.${digits(1 + random.below(20))}`;
  const exponents = [
    '',
    '',
    `e${random.below(40) - 20}`,
    `E+${random.below(330)}`,
    `e-${random.below(360)}`,
  ];
  const odd = random.below(40) === 0 ? ['0', '+', '.', 'e', ' 1', 'x'][random.below(6)]! : '';
  return `${random.below(3) === 0 ? '-' : ''}${odd}${whole}${fraction}${exponents[random.below(5)]}`;
}

test('numbers are the doubles that JSON has', () => {
  let scannedCount = 0;
  for (let seed = 0; seed < CASES; seed += 1) {
    const text = numberText(randomStream(seed, 'number'));
    const body = Buffer.from(`{"columns":{"adgroup":["a"],"features":{"n":[${text}]}}}`);
    const scanned = scanner.scanned(body);
    const expected = parsedOf(body);
    if (expected === null) expect(scanned, text).toBeNull();
    if (scanned === null) continue;
    expect(plain(scanned), text).toEqual(expected);
    scannedCount += 1;
  }
  expect(scannedCount).toBeGreaterThan(CASES / 2);
});

test('bytes that are no text, and a mark of their order, are left to the parser', () => {
  const text = '{"columns":{"adgroup":["a"]}}';
  expect(scanner.scanned(Buffer.from(text))).not.toBeNull();
  expect(scanner.scanned(Buffer.from(`\ufeff${text}`))).toBeNull();
  expect(scanner.scanned(Buffer.from(text.replace('a"]', '\u0080"]'), 'latin1'))).toBeNull();
  expect(scanner.scanned(Buffer.alloc(0))).toBeNull();
});
