// Whatever a body holds, it is ranked or refused: nothing else is thrown, and an order names candidates
// of the request, each once. Seen to fail: failures of the encoder passed on as they are,
// offsets of texts that are not checked.

import { beforeAll, expect, test } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { rankingOf } from '../../../worker/serving/server/answers.js';
import { parseBinaryBody } from '../../../worker/serving/server/forms/binary-body.js';
import { parseRankingBody } from '../../../worker/serving/server/ranking-body.js';
import { problemOf, RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { chosenScorer } from '../../../worker/serving/server/scorer-choice.js';
import { ServedBundle } from '../../../worker/serving/server/served-bundle.js';
import { binaryRequest } from '../../fixtures/serving/binary-request.js';
import { mutatedText } from '../../fixtures/serving/mutated-text.js';
import { plainScorer, twoBundles } from '../../fixtures/serving/served-export.js';

const CASES = 4_000;
const FEATURES = { category0: 'category0-1', category1: null, bag0: ['bag0-1'], number0: 1 };
const BODIES = [
  {
    context: FEATURES,
    candidates: [
      { adgroup: 'task1', bid: 2 },
      { adgroup: ['task2'], pacing: 3 },
    ],
  },
  { candidates: [{ adgroup: 'task1', features: FEATURES }], seed: 1, squash: 0.5, reserve: 0.1 },
  { candidates: ['task1', 7].map((adgroup) => ({ adgroup, features: FEATURES })) },
];
let bundle: ServedBundle;
let nativeBundle: ServedBundle;
beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
  const { objects, digests } = await twoBundles();
  bundle = await ServedBundle.read(objects, digests[0], plainScorer);
  nativeBundle = await ServedBundle.read(objects, digests[0], chosenScorer(scoringAddon.path()));
});

test('every body is ranked or refused', () => {
  const outcomes = { ranked: 0, 'wrong-value': 0, malformed: 0 };
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'fuzzed body');
    const text = mutatedText(random, JSON.stringify(BODIES[random.below(BODIES.length)]));
    try {
      const body = parseRankingBody(Buffer.from(text));
      const { order, estimates } = rankingOf(bundle, body);
      expect(new Set(order).size).toBe(order.length);
      expect(order.every((place) => place < body.candidateCount)).toBe(true);
      expect(estimates.scores).toHaveLength(body.candidateCount);
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

const BINARY_BODIES = [true, false].map((areHashed) =>
  binaryRequest(
    { context: { category0: 'category0-1' }, squash: 0.5 },
    {
      ...{ adgroups: ['task1', 'task2', 'nobody'], areHashed, bids: [1, 2, 3] },
      features: [
        ['category1', { type: 'text', values: ['category1-1', '', 'größe'] }],
        ['bag0', { type: 'inline', values: [['bag0-1'], [], null] }],
        ['number0', { type: 'float64', values: [0.5, -1, 0] }],
      ],
    },
  ),
);

function mutatedBinary(random: RandomStream): Buffer {
  let body = Buffer.from(BINARY_BODIES[random.below(2)]!);
  const headerEnd = 4 + body.readUInt32LE(0);
  switch (random.below(4)) {
    case 0: {
      const header = Buffer.from(mutatedText(random, body.toString('utf8', 4, headerEnd)));
      const padding = Buffer.alloc((headerEnd - header.length - 4) & 7, ' ');
      body = Buffer.concat([body.subarray(0, 4), header, padding, body.subarray(headerEnd)]);
      body.writeUInt32LE(header.length + padding.length, 0);
      return body;
    }
    case 1:
      return body.subarray(0, random.below(body.length));
    case 2:
      return Buffer.concat([body, Buffer.alloc(random.below(20))]);
    default:
      for (let change = random.below(4); change >= 0; change -= 1)
        body[
          random.below(3) === 0
            ? random.below(body.length)
            : headerEnd + random.below(body.length - headerEnd)
        ] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)]!;
      return body;
  }
}

test('every body in binary is ranked or refused', () => {
  const outcomes = { ranked: 0, refused: 0 };
  for (let seed = 0; seed < CASES / 2; seed += 1) {
    const body = mutatedBinary(randomStream(seed, 'fuzzed binary body'));
    try {
      const parsed = parseBinaryBody(body);
      const { order } = rankingOf(nativeBundle, parsed);
      expect(new Set(order).size).toBe(order.length);
      expect(order.every((place) => place < parsed.candidateCount)).toBe(true);
      outcomes.ranked += 1;
    } catch (error) {
      if (!(error instanceof RefusedRequest))
        throw new Error(body.toString('hex'), { cause: error });
      outcomes.refused += 1;
    }
  }
  for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(CASES / 40);
});
