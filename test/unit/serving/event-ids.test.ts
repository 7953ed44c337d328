/** Ids of events: they name what was shown, and nobody else can make them. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decisionIds,
  EVENT_ID_LENGTH_MAX,
  EventIds,
} from '../../../worker/serving/exploration/event-ids.js';

const NONCE = '0123456789abcdef';

const single = fc.double({ min: 0, max: 1, noNaN: true }).map(Math.fround);
const choices = fc.record({
  bundle: fc.stringMatching(/^[0-9a-f]{12}$/),
  segment: fc.option(
    fc.string({ maxLength: 48, unit: 'grapheme' }).map((text) => text.slice(0, 24)),
  ),
  probability: single,
  isExploration: fc.boolean(),
  propensity: single,
});

test('ids name their decision, its time, the slot, the adgroup and how it was chosen', () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, maxLength: 200, unit: 'grapheme' }),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 0, max: 8.64e12 }),
      choices,
      (adgroup, slot, decidedMs, choice) => {
        const ids = new EventIds('key');
        const decision = decisionIds(NONCE)(decidedMs);
        const id = ids.idOf({ decision, slot, adgroup, choice });
        expect(ids.slotOf(id)).toEqual({ decision, slot, adgroup, decidedMs, choice });
        expect(id.length).toBeLessThanOrEqual(EVENT_ID_LENGTH_MAX);
      },
    ),
  );
});

test('an id with another character, or of another key, is unknown', () => {
  // Seen to fail: with the slot left out of what is signed.
  const choice = {
    ...{ bundle: 'ab12cd34ef56'.padEnd(64, '0'), segment: 's', probability: 0.25 },
    ...{ isExploration: true, propensity: 0.5 },
  };
  const shown = { decision: decisionIds(NONCE)(7), slot: 12, adgroup: 'a', choice };
  const id = new EventIds('key').idOf(shown);
  const ids = new EventIds('key');
  for (let place = 0; place < id.length; place += 1)
    for (const character of ['0', 'A', '.', 'é'])
      if (id.charAt(place) !== character)
        expect(ids.slotOf(id.slice(0, place) + character + id.slice(place + 1))).toBeNull();
  expect(new EventIds('another').slotOf(id)).toBeNull();
  for (const text of ['', '.', '...', 'a.1.b.c', `${id}.`]) expect(ids.slotOf(text)).toBeNull();
});
