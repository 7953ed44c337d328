/** Impressions of an adgroup: counted once by how it was chosen, kept by snapshots, and added to sums of calibration. */

import { describe, expect, it } from 'vitest';
import { CalibrationCounts } from '../../../worker/serving/decisions/calibration-counts.js';
import { decisionIds, EventIds } from '../../../worker/serving/decisions/event-ids.js';
import { FeedbackTaker } from '../../../worker/serving/decisions/feedback.js';
import type { ReceivedRequest } from '../../../worker/serving/server/endpoint.js';
import { feedbackEndpoint } from '../../../worker/serving/server/endpoints/feedback.js';
import type { ShownChoice } from '../../../worker/serving/decisions/shown-choice.js';
import {
  EvidenceLedger,
  NOTHING_SERVED,
  type FeedbackEvent,
} from '../../../worker/serving/evidence/evidence-ledger.js';
import { settingsOf } from '../../fixtures/decision-input.js';

const { feedback } = settingsOf({
  feedback: { windowSeconds: 10, eventLifetimeSeconds: 100, adgroupLifetimeSeconds: 100 },
});

function shown(id: string, adgroup: string, isExploration: boolean): FeedbackEvent {
  const chosen = { isExploration, propensity: isExploration ? 0.125 : 0.75 };
  return { kind: 'impression', id, adgroup, epochMs: 0, chosen };
}

describe('a ledger', () => {
  it('counts impressions by how they were chosen, settled or not, each once', () => {
    const ledger = new EvidenceLedger(feedback);
    ledger.take(
      [
        ...[shown('1', 'a', true), shown('2', 'a', false), shown('2', 'a', true)],
        ...[shown('3', 'b', false), shown('4', 'b', false)],
        // An id of an earlier server, which did not say.
        { kind: 'impression', id: '5', adgroup: 'a', epochMs: 0 },
      ],
      0,
    );
    const all = { impressions: 4, explored: 1, propensities: 0.125 + 3 * 0.75 };
    expect(ledger.servedOf('a')).toEqual({
      own: { impressions: 2, explored: 1, propensities: 0.875 },
      all,
    });
    expect(ledger.servedOf('nobody')).toEqual({ own: NOTHING_SERVED, all });
    const again = new EvidenceLedger(feedback);
    for (const snapshot of ledger.snapshots(1)) again.restore(JSON.parse(snapshot));
    expect(again.servedOf('a')).toEqual(ledger.servedOf('a'));
    // The adgroup is forgotten, and the total is not.
    again.take([], 101_000);
    expect(again.servedOf('a')).toEqual({ own: NOTHING_SERVED, all });
  });

  it('takes a snapshot of an earlier version as one that knows nothing of it', () => {
    const ledger = new EvidenceLedger(feedback);
    const adgroup = { impressions: 3, rewards: 1, open: 0, firstMs: 0, lastMs: 0 };
    ledger.restore({
      ...{ events: [], adgroups: [['a', adgroup]], lateCount: 0, duplicateCount: 0 },
    });
    expect(ledger.servedOf('a')).toEqual({ own: NOTHING_SERVED, all: NOTHING_SERVED });
    expect(ledger.evidenceOf('a').impressions).toBe(3);
  });
});

const choiceOf = (probability: number, fields: Partial<ShownChoice> = {}): ShownChoice => ({
  ...{ bundle: 'b1', segment: null, isExploration: false, propensity: 1 },
  ...{ probability, ...fields },
});

describe('calibration', () => {
  it('sums predictions, their variance and outcomes by bundle and segment', () => {
    const counts = new CalibrationCounts();
    counts.addImpression(choiceOf(0.5));
    counts.addImpression(choiceOf(0.25));
    counts.addOutcome(choiceOf(0.5), 1);
    counts.addImpression(choiceOf(0.125, { segment: 'value' }));
    expect(counts.all()).toEqual([
      {
        ...{ bundle: 'b1', segment: 'all', impressions: 2, predicted: 0.75 },
        ...{ variance: 0.25 + 0.1875, observed: 1 },
      },
      {
        bundle: 'b1',
        segment: 'value',
        impressions: 1,
        predicted: 0.125,
        variance: 0.109375,
        observed: 0,
      },
    ]);
  });

  it('keeps the last sixteen bundles that had feedback', () => {
    const counts = new CalibrationCounts();
    for (let number = 0; number < 16; number += 1)
      counts.addImpression(choiceOf(0.5, { bundle: `b${number}` }));
    counts.addOutcome(choiceOf(0.5, { bundle: 'b0' }), 1);
    counts.addImpression(choiceOf(0.5, { bundle: 'b16' }));
    const bundles = counts.all().map(({ bundle }) => bundle);
    expect(bundles).toHaveLength(16);
    expect(bundles).toContain('b0');
    expect(bundles).not.toContain('b1');
  });

  it('counts what is acknowledged as counted, and nothing else', async () => {
    // Seen to fail: with every event that was taken counted, whatever its receipt.
    const clock = { epochMs: () => 5_000, monotonicMs: () => 0, sleep: () => Promise.resolve() };
    const ids = new EventIds('key');
    const decision = decisionIds('0123456789abcdef')(4_000);
    const choice = choiceOf(0.25, { bundle: 'ab12cd34ef56', segment: 'ordered' });
    const event = ids.idOf({ decision, slot: 1, adgroup: 'a', choice, lesson: null });
    const old = ids.idOf({ decision, slot: 2, adgroup: 'a', choice: null, lesson: null });
    const ledger = new EvidenceLedger(feedback);
    const taker = new FeedbackTaker({
      ...{ settings: feedback, ids, clock, log: { append: () => Promise.resolve() } },
      evidence: { record: (events) => Promise.resolve(ledger.take(events, 5_000)) },
    });
    const impression = { event, reward: null, epochMs: null };
    const outcome = { event, reward: 1, epochMs: null };
    const unknown = { ...impression, event: `${event}x` };
    const receipts = await taker.take([
      ...[impression, outcome, impression, outcome, unknown],
      { ...impression, event: old },
    ]);
    expect(receipts).toEqual([
      ...['counted', 'counted', 'duplicate', 'duplicate', 'unknown', 'counted'],
    ]);
    expect(taker.calibration.all()).toEqual([
      {
        ...{ bundle: 'ab12cd34ef56', segment: 'ordered', impressions: 1, predicted: 0.25 },
        ...{ variance: 0.1875, observed: 1 },
      },
    ]);
    expect(ledger.servedOf('a').own).toEqual({ impressions: 1, explored: 0, propensities: 1 });
  });

  it('takes no event whose time is in other units than milliseconds', async () => {
    const nowMs = 1_790_000_000_000;
    const ids = new EventIds('key');
    const decision = decisionIds('0123456789abcdef')(nowMs - 60_000);
    const event = ids.idOf({ decision, slot: 1, adgroup: 'a', choice: null, lesson: null });
    const ledger = new EvidenceLedger(feedback);
    const taker = new FeedbackTaker({
      ...{ settings: feedback, ids, log: { append: () => Promise.resolve() } },
      clock: { epochMs: () => nowMs, monotonicMs: () => 0, sleep: () => Promise.resolve() },
      evidence: { record: (events) => Promise.resolve(ledger.take(events, nowMs)) },
    });
    const endpoint = feedbackEndpoint(taker);
    const posted = async (epochMs: number): Promise<unknown> => {
      const events = [
        { kind: 'impression', event: `${event}x` },
        { kind: 'impression', event, epochMs },
      ];
      // An endpoint of feedback reads nothing else of its request.
      return endpoint.answer({ body: Buffer.from(JSON.stringify({ events })) } as ReceivedRequest);
    };
    for (const epochMs of [nowMs / 1_000, nowMs * 1_000])
      await expect(posted(epochMs)).rejects.toMatchObject({
        refusal: { reason: 'wrong-value', where: 'events.1.epochMs', found: String(epochMs) },
      });
    expect(ledger.evidenceOf('a').firstMs).toBeNull();
    // A clock that is some hours off.
    await posted(nowMs - 12 * 3_600_000);
    expect(ledger.evidenceOf('a').open).toBe(1);
  });
});
