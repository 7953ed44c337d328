/** What every store of evidence does, whatever keeps it. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../shared/base/clock.js';
import type { ExplorationConfig } from '../../shared/config/exploration-config.js';
import {
  EvidenceLedger,
  type FeedbackEvent,
} from '../../worker/serving/evidence/evidence-ledger.js';
import type { EvidenceStore } from '../../worker/serving/evidence/evidence-store.js';
import { lessonOf, type Learning } from '../../worker/serving/evidence/learned-weights.js';
import { settingsOf } from '../fixtures/decision-input.js';

export interface EvidenceRoom {
  /** The same evidence under the same name. */
  open(
    name: string,
    options: {
      readonly clock: Clock;
      readonly feedback: ExplorationConfig['feedback'];
      readonly learning?: Learning;
    },
  ): Promise<EvidenceStore>;
  /** Ends what holds the evidence without a warning: what a store acknowledges later does not count. */
  kill(): Promise<void>;
  restart(): Promise<void>;
}

export const impression = (id: string, adgroup: string, epochMs: number): FeedbackEvent => ({
  ...{ kind: 'impression', id, adgroup, epochMs },
});
export const reward = (id: string, epochMs: number, value = 1): FeedbackEvent => ({
  ...{ kind: 'reward', id, reward: value, epochMs },
});

/** A window of 10 s, ids for 100 s, adgroups for 1,000 s. */
export function feedbackOf(fields: Partial<ExplorationConfig['feedback']> = {}) {
  const lifetimes = { windowSeconds: 10, eventLifetimeSeconds: 100, adgroupLifetimeSeconds: 1000 };
  return settingsOf({ feedback: { ...lifetimes, ...fields } }).feedback;
}

export function steeredClock(): Clock & { nowMs: number } {
  return {
    nowMs: 0,
    epochMs() {
      return this.nowMs;
    },
    monotonicMs() {
      return this.nowMs;
    },
    sleep: () => Promise.resolve(),
  };
}

const S = 1000;
const ADGROUPS = ['a', 'b', 'c'];

/** Events of few names, so that they meet, and steps of time beyond windows and lifetimes. */
const batches = fc.array(
  fc.record({
    stepMs: fc.constantFrom(0, 1, 4 * S, 10 * S, 11 * S, 101 * S, 1001 * S),
    events: fc.array(
      fc.record({
        kind: fc.constantFrom('impression', 'reward'),
        id: fc.constantFrom('1', '2', '3', '4', '5'),
        adgroup: fc.constantFrom(...ADGROUPS),
        agoMs: fc.constantFrom(0, 5 * S, 15 * S, 20 * S),
        value: fc.constantFrom(0, 1 / 3, 1),
        chosen: fc.constantFrom(
          undefined,
          { isExploration: true, propensity: 0.1 },
          { isExploration: false, propensity: 0.7 },
        ),
      }),
      { maxLength: 6 },
    ),
  }),
  { minLength: 1, maxLength: 8 },
);

export function describeEvidenceStore(name: string, roomOf: () => EvidenceRoom): void {
  let storeNumber = 0;
  const freshName = (): string => `store-${(storeNumber += 1)}`;

  describe(name, () => {
    it('counts as the ledger does, for every order of events and times', async () => {
      // Seen to fail: with duplicates served too, with >= for > at the end of a reward's window, with rewards counted twice, and with one adgroup too many.
      const feedback = feedbackOf({ eventsMax: 4, adgroupsMax: 2, defaultReward: 0.25 });
      await fc.assert(
        fc.asyncProperty(batches, async (steps) => {
          const clock = steeredClock();
          clock.nowMs = 10_000 * S;
          const ledger = new EvidenceLedger(feedback);
          const store = await roomOf().open(freshName(), { clock, feedback });
          for (const { stepMs, events } of steps) {
            clock.nowMs += stepMs;
            const told = events.map(({ kind, id, adgroup, agoMs, value, chosen }) =>
              kind === 'impression'
                ? { ...impression(id, adgroup, clock.nowMs - agoMs), ...(chosen ? { chosen } : {}) }
                : reward(id, clock.nowMs - agoMs, value),
            );
            const expected = ledger.take(told, clock.nowMs);
            expect(await store.record(told)).toEqual(expected);
            expect(await store.evidenceOf(ADGROUPS)).toEqual(
              ADGROUPS.map((adgroup) => ledger.evidenceOf(adgroup)),
            );
            for (const adgroup of ADGROUPS)
              expect(await store.servedOf(adgroup)).toEqual(ledger.servedOf(adgroup));
          }
          const { lateCount, duplicateCount } = ledger;
          expect(await store.counts()).toEqual({ lateCount, duplicateCount });
          await store.close();
        }),
        { numRuns: 30 },
      );
    });

    it.each(['linear', 'logistic'] as const)(
      'learns %s weights from settled impressions as the ledger does, and keeps them when it is killed',
      async (kind) => {
        // Seen to fail: with the sums of pairs left out, and with precisions that do not grow.
        const learning: Learning = { kind, dimension: 8, precision: 0.7 };
        const feedback = feedbackOf({ defaultReward: 0.1 });
        const [clock, named] = [steeredClock(), freshName()];
        clock.nowMs = 10_000 * S;
        const ledger = new EvidenceLedger(feedback, learning);
        const room = roomOf();
        const store = await room.open(named, { clock, feedback, learning });
        const expectLearned = async (own: EvidenceStore): Promise<void> => {
          const found = await own.learned();
          const expected = ledger.learned();
          expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
          for (const [name, number] of expected) expect(found.get(name)).toBeCloseTo(number, 9);
        };
        for (let turn = 0; turn < 40; turn += 1) {
          clock.nowMs += turn % 7 === 0 ? 11 * S : 1;
          const adgroup = `adgroup ${turn % 5}`;
          const probability = (turn % 10) / 9;
          // Rewards of a later turn, and lessons of another dimension, which teach nothing.
          const dimension = turn % 9 === 8 ? 4 : 8;
          const lesson = lessonOf(
            { dimension },
            { adgroup, values: [`c=${turn % 3}`] },
            probability,
          );
          const shown = { ...impression(`i${turn}`, adgroup, clock.nowMs), lesson };
          const told = [shown, ...(turn % 3 === 0 ? [reward(`i${turn}`, clock.nowMs, 0.8)] : [])];
          expect(await store.record(told)).toEqual(ledger.take(told, clock.nowMs));
        }
        clock.nowMs += 11 * S;
        ledger.take([], clock.nowMs);
        expect(ledger.learned().size).toBeGreaterThan(6);
        await expectLearned(store);
        await store.record([impression('last', 'a', clock.nowMs)]);
        await store.close();
        await room.kill();
        await room.restart();
        const again = await room.open(named, { clock, feedback, learning });
        await expectLearned(again);
        await again.close();
      },
    );

    it('loses nothing that it has acknowledged and counts nothing twice when it is killed', async () => {
      const [clock, feedback, named] = [steeredClock(), feedbackOf(), freshName()];
      const room = roomOf();
      const killed = await room.open(named, { clock, feedback });
      const ids = Array.from({ length: 60 }, (_, index) => `i${index}`);
      const acknowledgedIds = new Set<string>();
      const recorded = ids.map(async (id) => {
        await killed.record([impression(id, 'a', 0), reward(id, 1)]);
        acknowledgedIds.add(id);
      });
      await Promise.race(recorded);
      await room.kill();
      const acknowledgedInTime = new Set(acknowledgedIds);
      await room.restart();
      await Promise.allSettled(recorded);
      await killed.close().catch(() => undefined);
      const store = await room.open(named, { clock, feedback });
      // Whoever had no answer sends again, and so does whoever is unsure.
      const again = await Promise.all(
        ids.map((id) => store.record([impression(id, 'a', 0), reward(id, 1)])),
      );
      for (const [place, id] of ids.entries())
        if (acknowledgedInTime.has(id)) expect(again[place]).toEqual(['duplicate', 'duplicate']);
      expect(acknowledgedInTime.size).toBeGreaterThan(0);
      expect(await store.evidenceOf(['a'])).toMatchObject([
        { impressions: ids.length, rewards: ids.length, open: 0 },
      ]);
      await store.close();
    });
  });
}
