/** Ids of events: they name what was shown, and nobody else can make them. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decisionIds, EventIds } from '../../../worker/serving/decisions/event-ids.js';

const NONCE = '0123456789abcdef';

test('ids name their decision, its time, the slot, the adgroup and what it teaches', () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, maxLength: 200, unit: 'grapheme' }),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 0, max: 8.64e12 }),
      fc.option(
        fc.record({
          dimension: fc.integer({ min: 2, max: 64 }),
          places: fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { minLength: 1, maxLength: 18 }),
          probability: fc.double({ min: 0, max: 1, noNaN: true }),
        }),
      ),
      (adgroup, slot, decidedMs, lesson) => {
        const ids = new EventIds('key');
        const decision = decisionIds(NONCE)(decidedMs);
        const id = ids.idOf({ decision, slot, adgroup, lesson });
        expect(ids.slotOf(id)).toEqual({ decision, slot, adgroup, decidedMs, lesson });
      },
    ),
  );
});

test('decisions of one process have different ids', () => {
  const next = decisionIds(NONCE);
  expect(new Set(Array.from({ length: 100 }, () => next(5))).size).toBe(100);
});

test('an id with another character, or of another key, is unknown', () => {
  // Seen to fail: with the slot left out of what is signed.
  const lesson = { dimension: 8, places: [0, 3], probability: 0.25 };
  const shown = { decision: decisionIds(NONCE)(7), slot: 12, adgroup: 'a', lesson };
  const id = new EventIds('key').idOf(shown);
  const ids = new EventIds('key');
  for (let place = 0; place < id.length; place += 1)
    for (const character of ['0', 'A', '.', 'é'])
      if (id.charAt(place) !== character)
        expect(ids.slotOf(id.slice(0, place) + character + id.slice(place + 1))).toBeNull();
  expect(new EventIds('another').slotOf(id)).toBeNull();
  for (const text of ['', '.', '...', 'a.1.b.c', `${id}.`]) expect(ids.slotOf(text)).toBeNull();
});
