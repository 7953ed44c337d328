// Whatever a body holds, it is ranked or refused: nothing else is thrown, and an order names candidates
// of the request, each once. Seen to fail: failures of the encoder passed on as they are.

import { beforeAll, expect, test } from 'vitest';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { rankAnswer } from '../../../worker/serving/server/answers.js';
import { parseRankingBody } from '../../../worker/serving/server/ranking-body.js';
import { problemOf, RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { ServedBundle } from '../../../worker/serving/server/served-bundle.js';
import { plainScorer, twoBundles } from '../../fixtures/serving/served-export.js';

const CASES = 20_000;
const FEATURES = { category0: 'category0-1', category1: null, bag0: ['bag0-1'], number0: 1 };
const LISTS = Object.fromEntries(
  Object.entries(FEATURES).map(([name, value]) => [name, [value, value]]),
);
const BODIES = [
  {
    context: FEATURES,
    candidates: [
      { adgroup: 'task1', bid: 2 },
      { adgroup: ['task2'], pacing: 3 },
    ],
  },
  { candidates: [{ adgroup: 'task1', features: FEATURES }], seed: 1, squash: 0.5, reserve: 0.1 },
  { columns: { adgroup: ['task1', 7], bid: [1, 2], features: LISTS } },
];
/** Texts of JSON that take the place of a part of a body. */
const ODD = [
  ...[
    'null',
    'true',
    '-1',
    '1e400',
    '-1e400',
    '1e308',
    '0.1',
    '""',
    '"\\ud800"',
    '"\\u0000"',
    '[]',
    '{}',
  ],
  ...[
    '[[]]',
    '[null,"a",1]',
    '{"__proto__":1}',
    '"category0-1"',
    '[1e999]',
    '123456789012345678901234567890',
  ],
];

let bundle: ServedBundle;
beforeAll(async () => {
  const { objects, digests } = await twoBundles();
  bundle = await ServedBundle.read(objects, digests[0], plainScorer);
});

function mutated(random: RandomStream): string {
  let text = JSON.stringify(BODIES[random.below(BODIES.length)]);
  for (let change = random.below(3); change >= 0; change -= 1) {
    const tokens = [...text.matchAll(/"[^"]*"|[\d.]+|null|\[|\]|\{|\}|:|,/g)];
    const token = tokens[random.below(tokens.length)]!;
    const [found] = token;
    const odd = random.below(8) === 0 ? found + found : ODD[random.below(ODD.length)]!;
    text = text.slice(0, token.index) + odd + text.slice(token.index + found.length);
  }
  return text;
}

test('every body is ranked or refused', () => {
  const outcomes = { ranked: 0, 'wrong-value': 0, malformed: 0 };
  for (let seed = 0; seed < CASES; seed += 1) {
    const text = mutated(randomStream(seed, 'fuzzed body'));
    try {
      const body = parseRankingBody(Buffer.from(text));
      const { order, scores } = rankAnswer(bundle, body);
      expect(new Set(order).size).toBe(order.length);
      expect(order.every((place) => place < body.candidateCount)).toBe(true);
      expect(scores).toHaveLength(body.candidateCount);
      outcomes.ranked += 1;
    } catch (error) {
      if (!(error instanceof RefusedRequest)) throw new Error(text, { cause: error });
      const { reason } = error.refusal;
      expect(JSON.parse(problemOf(error.refusal))).toMatchObject({ reason, status: 400 });
      if (reason === 'wrong-value' || reason === 'malformed') outcomes[reason] += 1;
    }
  }
  for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(CASES / 50);
});
