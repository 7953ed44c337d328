// Whatever a body of feedback holds, each of its events has a receipt or the body is refused, and no event of a slot
// counts twice. Seen to fail: with ids taken whose signature was not looked at.

import { expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { decisionIds, EventIds } from '../../../worker/serving/exploration/event-ids.js';
import { FeedbackTaker } from '../../../worker/serving/exploration/feedback.js';
import { EvidenceLedger } from '../../../worker/serving/exploration/evidence-ledger.js';
import type { ReceivedRequest } from '../../../worker/serving/server/endpoint.js';
import { feedbackEndpoint } from '../../../worker/serving/server/endpoints/exploration.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { settingsOf } from '../../fixtures/decision-input.js';

const CASES = 3_000;
const SLOTS = 4;
const settings = settingsOf().feedback;
const ids = new EventIds('key');
const decidedMs = systemClock.epochMs();
const decision = decisionIds('0123456789abcdef')(decidedMs);
const choice = {
  ...{ bundle: 'ab12cd34ef56', segment: null, probability: 0.5 },
  ...{ isExploration: false, propensity: 1 },
};
const EVENTS = Array.from({ length: SLOTS }, (_, slot) =>
  ids.idOf({ decision, slot: slot + 1, adgroup: `a${slot}`, choice }),
);
/** An id of the adgroup `b`, which no server has signed. */
const FORGED = `${decision}.9.${Buffer.from('b').toString('base64url')}.AAAA.${'A'.repeat(22)}`;
const ODD = [
  ...['null', 'true', '-1', '1e400', '0.5', '""', '"\\ud800"', '[]', '{}', '"outcome"'],
  ...[
    '"impression"',
    '8.64e15',
    '{"__proto__":1}',
    `"${FORGED}"`,
    ...EVENTS.map((id) => `"${id}"`),
  ],
];

function mutated(random: RandomStream): string {
  const kinds = ['impression', 'outcome'];
  const events = Array.from({ length: random.below(4) }, () => ({
    kind: at(kinds, random.below(2)),
    event: at(EVENTS, random.below(SLOTS)),
    ...(random.below(3) === 0 ? { epochMs: decidedMs + random.below(2_000) } : {}),
  }));
  let text = JSON.stringify({ events });
  for (let change = random.below(3); change > 0; change -= 1) {
    const tokens = [...text.matchAll(/"[^"]*"|[\d.]+|null|\[|\]|\{|\}|:|,/g)];
    const token = tokens[random.below(tokens.length)]!;
    const end = token.index + token[0].length;
    text = text.slice(0, token.index) + at(ODD, random.below(ODD.length)) + text.slice(end);
  }
  return text;
}

test('every body is taken or refused, and every event counts once', async () => {
  const ledger = new EvidenceLedger(settings);
  const evidence = {
    append: (text: string) => Promise.resolve(ledger.apply(text, systemClock.epochMs())),
  };
  const log = { append: () => Promise.resolve() };
  const endpoint = feedbackEndpoint(
    new FeedbackTaker({ settings, evidence, log, ids, clock: systemClock }),
  );
  const outcomes = { taken: 0, 'wrong-value': 0, malformed: 0 };
  for (let seed = 0; seed < CASES; seed += 1) {
    const text = mutated(randomStream(seed, 'fuzzed feedback'));
    try {
      // An endpoint of feedback reads nothing else of its request.
      const request = { body: Buffer.from(text) } as ReceivedRequest;
      const { content } = await endpoint.answer(request);
      const { receipts } = JSON.parse(String(content)) as { readonly receipts: string[] };
      const { events } = JSON.parse(text) as { readonly events: object[] };
      expect(receipts).toHaveLength(events.length);
      outcomes.taken += 1;
    } catch (error) {
      if (!(error instanceof RefusedRequest)) throw new Error(text, { cause: error });
      const { reason } = error.refusal;
      if (reason === 'wrong-value' || reason === 'malformed') outcomes[reason] += 1;
    }
  }
  for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(CASES / 50);
  for (let slot = 0; slot < SLOTS; slot += 1) {
    const { impressions, open } = ledger.evidenceOf(`a${slot}`);
    expect(impressions + open).toBe(1);
  }
  expect(ledger.evidenceOf('b').firstMs).toBeNull();
});
