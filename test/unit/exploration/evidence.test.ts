/** Evidence: each event once, rewards within their window, and a log that restores it after a kill. */

import { appendFile, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  EvidenceLedger,
  eventsLine,
  keyLine,
  type FeedbackEvent,
  type Receipt,
} from '../../../worker/serving/exploration/evidence-ledger.js';
import { FileLog } from '../../../worker/serving/state/shared-log.js';
import { settingsOf } from '../../fixtures/decision-input.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

const impression = (id: string, adgroup: string, epochMs: number): FeedbackEvent => ({
  ...{ kind: 'impression', id, adgroup, epochMs, isExploration: false, propensity: 1 },
});
const reward = (id: string, epochMs: number, value = 1): FeedbackEvent => ({
  kind: 'reward',
  id,
  reward: value,
  epochMs,
});

/** A window of 10 s, ids for 100 s, adgroups for 1,000 s. */
function feedbackOf(fields: Partial<ReturnType<typeof settingsOf>['feedback']> = {}) {
  return settingsOf({
    feedback: {
      windowSeconds: 10,
      eventLifetimeSeconds: 100,
      adgroupLifetimeSeconds: 1000,
      ...fields,
    },
  }).feedback;
}

const S = 1000;

describe('a ledger', () => {
  it('counts an impression when its reward arrives or its window ends, not before', () => {
    const ledger = new EvidenceLedger(feedbackOf());
    expect(
      ledger.take([impression('i', 'a', 0), impression('j', 'a', 0), reward('i', 5 * S)], 5 * S),
    ).toEqual(['counted', 'counted', 'counted']);
    expect(ledger.evidenceOf('a')).toEqual({ impressions: 1, rewards: 1, open: 1, firstMs: 0 });
    ledger.take([], 15 * S);
    expect(ledger.evidenceOf('a')).toMatchObject({ impressions: 1, open: 1 });
    ledger.take([], 15 * S + 1);
    expect(ledger.evidenceOf('a')).toMatchObject({ impressions: 2, rewards: 1, open: 0 });
  });

  it('awaits the impression of an explored slot until it is reported or its window ends', () => {
    const ledger = new EvidenceLedger(feedbackOf({ eventsMax: 3 }));
    for (const [id, ms] of [
      ['i', 0],
      ['j', 4 * S],
      ['k', 5 * S],
    ] as const)
      ledger.awaitImpression(id, 'a', ms);
    expect([ledger.awaitedCountOf('a'), ledger.evidenceOf('a').open]).toEqual([3, 0]);
    ledger.take([impression('j', 'a', 4 * S), impression('j', 'a', 4 * S)], 6 * S);
    expect([ledger.awaitedCountOf('a'), ledger.evidenceOf('a').open]).toEqual([2, 1]);
    ledger.take([], 10 * S + 1);
    expect(ledger.awaitedCountOf('a')).toBe(1);
    for (const id of ['l', 'm', 'n']) ledger.awaitImpression(id, 'b', 11 * S);
    expect([ledger.awaitedCountOf('a'), ledger.awaitedCountOf('b')]).toEqual([0, 3]);
    // An impression that is reported after all counts as ever.
    ledger.take([impression('k', 'a', 5 * S)], 12 * S);
    expect(ledger.evidenceOf('a').open).toBe(2);
  });

  it('counts each event once, and late rewards as such', () => {
    const ledger = new EvidenceLedger(feedbackOf());
    const events = [
      impression('i', 'a', 0),
      impression('i', 'a', 0),
      reward('i', 1),
      reward('i', 2),
    ];
    expect(ledger.take(events, 0)).toEqual(['counted', 'duplicate', 'counted', 'duplicate']);
    ledger.take([impression('j', 'a', 0)], 0);
    expect(ledger.take([reward('j', 10 * S + 1)], 20 * S)).toEqual(['late']);
    expect(ledger.evidenceOf('a')).toMatchObject({ impressions: 2, rewards: 1, open: 0 });
    expect([ledger.lateCount, ledger.duplicateCount]).toEqual([1, 2]);
  });

  it('is bounded, and makes room when lifetimes end', () => {
    const ledger = new EvidenceLedger(feedbackOf({ eventsMax: 2, adgroupsMax: 1 }));
    const events = [impression('i', 'a', 0), impression('j', 'b', 0), impression('k', 'a', 0)];
    expect(ledger.take(events, 0)).toEqual(['counted', 'full', 'counted']);
    expect(ledger.take([impression('l', 'a', 0)], 0)).toEqual(['full']);
    expect(ledger.take([impression('l', 'a', 101 * S)], 101 * S)).toEqual(['counted']);
    expect(ledger.take([impression('m', 'b', 1102 * S)], 1102 * S)).toEqual(['counted']);
    expect(ledger.evidenceOf('a').firstMs).toBeNull();
  });

  it('ends with the same counts for every order of arrival and any repetition', () => {
    // Seen to fail: without the check for an impression of the same id.
    const events = ['a', 'b', 'c', 'd'].flatMap((adgroup, place) =>
      ['1', '2', '3'].flatMap((id) => [
        impression(`${adgroup}${id}`, adgroup, 0),
        ...(place === 0 ? [] : [reward(`${adgroup}${id}`, S, 1 / place)]),
      ]),
    );
    const counts = (order: readonly FeedbackEvent[]) => {
      const ledger = new EvidenceLedger(feedbackOf());
      for (const event of order) ledger.take([event], S);
      ledger.take([], 12 * S);
      return ['a', 'b', 'c', 'd'].map((adgroup) => ledger.evidenceOf(adgroup));
    };
    const expected = counts(events);
    fc.assert(
      fc.property(
        fc.shuffledSubarray([...events, ...events], { minLength: 2 * events.length }),
        (order) => {
          expect(counts(order)).toEqual(expected);
        },
      ),
    );
  });
});

describe('a file', () => {
  let folder: TemporaryFolder;
  let nowMs = 0;
  const clock: Clock = {
    epochMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: () => Promise.resolve(),
  };
  const open = (name = 'evidence.log', byteCountMin = 1_000_000) =>
    FileLog.open<EvidenceLedger, Receipt[]>(new EvidenceLedger(feedbackOf()), {
      ...{ path: join(folder.path, name), clock, byteCountMin },
    });
  beforeEach(async () => {
    folder = await temporaryFolder();
    nowMs = 0;
  });
  afterEach(() => folder.remove());

  it('cuts off half a line, and goes on behind it', async () => {
    const log = await open();
    await log.append(eventsLine([impression('i', 'a', 0)]));
    await log.close();
    await appendFile(join(folder.path, 'evidence.log'), '0 {"kind":"events","eve');
    const cut = await open();
    expect(await cut.append(eventsLine([impression('j', 'a', 0)]))).toEqual(['counted']);
    await cut.close();
    const restored = await open();
    expect(restored.state.evidenceOf('a')).toMatchObject({ open: 2 });
    await restored.close();
  });

  it('is replaced by a snapshot when it has grown', async () => {
    const log = await open('small.log', 2000);
    await log.append(keyLine('secret'));
    for (let index = 0; index < 100; index += 1) {
      nowMs = index * 20 * S;
      const events = [impression(`i${index}`, 'a', nowMs), reward(`i${index}`, nowMs + S)];
      await log.append(eventsLine(events));
    }
    await log.close();
    expect((await stat(join(folder.path, 'small.log'))).size).toBeLessThan(5000);
    const restored = await open('small.log');
    expect(restored.state.evidenceOf('a')).toMatchObject({ impressions: 100, rewards: 100 });
    expect(restored.state.servedOf('a').all).toEqual({
      ...{ impressions: 100, explored: 0, propensities: 100 },
    });
    expect(restored.state.signingKey).toBe('secret');
    expect(await restored.append(eventsLine([reward('i99', nowMs)]))).toEqual(['duplicate']);
    await restored.close();
  });

  it('is not replaced for each batch by snapshots that are themselves larger than its bound', async () => {
    // Seen to fail: without regard to the size of the snapshots.
    const log = await open('large.log', 2000);
    const [path, files] = [join(folder.path, 'large.log'), new Set<number>()];
    const ids = Array.from({ length: 400 }, (_, index) => impression(`i${index}`, 'a', 0));
    await log.append(eventsLine(ids));
    for (let index = 0; index < 50; index += 1) {
      await log.append(eventsLine([impression(`one ${index}`, 'a', 0)]));
      files.add((await stat(path)).ino);
    }
    expect(files.size).toBeLessThan(3);
    await log.close();
    const again = await open('large.log', 2000);
    expect(again.state.evidenceOf('a')).toMatchObject({ open: 450 });
    const before = (await stat(path)).ino;
    await again.append(eventsLine([impression('last', 'a', 0)]));
    expect((await stat(path)).ino).toBe(before);
    await again.close();
  });

  it('has a state that stands still while a snapshot is made', () => {
    // Seen to fail: with windows that end between two lines of a snapshot.
    const ledger = new EvidenceLedger(feedbackOf());
    ledger.take([impression('i', 'a', 0)], 0);
    const copy = new EvidenceLedger(feedbackOf());
    for (const line of ledger.snapshot()) {
      ledger.endWindows(11 * S);
      copy.apply(line, 0);
    }
    expect(copy.evidenceOf('a')).toMatchObject({ impressions: 0, open: 1 });
    for (const each of [ledger, copy]) each.endWindows(11 * S);
    expect(copy.evidenceOf('a')).toEqual(ledger.evidenceOf('a'));
  });

  it('acknowledges nothing once another process has the folder', async () => {
    const path = join(folder.path, 'evidence.log');
    const assertOwned = (): Promise<never> =>
      Promise.reject(new QianmoError({ kind: 'usage', what: 'another has it' }));
    const ledger = new EvidenceLedger(feedbackOf());
    const log = await FileLog.open<EvidenceLedger, Receipt[]>(ledger, { path, clock, assertOwned });
    await expect(log.append(keyLine('k'))).rejects.toThrow('another has it');
    await log.close();
    expect(await readFile(path, 'utf8')).toBe('');
  });
});
