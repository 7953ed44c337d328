/** Evidence: each event once, rewards within their window, and a log that restores it after a kill. */

import { readdirSync, statSync } from 'node:fs';
import { appendFile, copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  EvidenceLedger,
  type FeedbackEvent,
} from '../../../worker/serving/evidence/evidence-ledger.js';
import { openEvidenceLog } from '../../../worker/serving/evidence/evidence-log.js';
import { settingsOf } from '../../fixtures/decision-input.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

const impression = (id: string, adgroup: string, epochMs: number): FeedbackEvent => ({
  kind: 'impression',
  id,
  adgroup,
  epochMs,
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
    const ledger = new EvidenceLedger(feedbackOf({ defaultReward: 0.25 }));
    expect(
      ledger.take([impression('i', 'a', 0), impression('j', 'a', 0), reward('i', 5 * S)], 5 * S),
    ).toEqual(['counted', 'counted', 'counted']);
    expect(ledger.evidenceOf('a')).toEqual({ impressions: 1, rewards: 1, open: 1, firstMs: 0 });
    ledger.take([], 15 * S);
    expect(ledger.evidenceOf('a')).toMatchObject({ impressions: 1, open: 1 });
    ledger.take([], 15 * S + 1);
    expect(ledger.evidenceOf('a')).toMatchObject({ impressions: 2, rewards: 1.25, open: 0 });
  });

  it('forgets no adgroup whose impressions are open', () => {
    const refused = () => feedbackOf({ windowSeconds: 60, adgroupLifetimeSeconds: 20 });
    expect(refused).toThrow(/an adgroup would be forgotten/);
    const ledger = new EvidenceLedger(
      feedbackOf({ windowSeconds: 60, adgroupLifetimeSeconds: 60 }),
    );
    ledger.take([impression('i', 'a', 0)], 0);
    ledger.take([impression('j', 'a', 30 * S)], 30 * S);
    ledger.take([], 61 * S);
    expect(ledger.evidenceOf('a')).toMatchObject({ impressions: 1, open: 1 });
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

  it('holds a reward that arrives before its impression', () => {
    const ledger = new EvidenceLedger(feedbackOf());
    expect(ledger.take([reward('i', 3 * S)], 3 * S)).toEqual(['counted']);
    expect(ledger.take([impression('i', 'a', 0), reward('i', 4 * S)], 4 * S)).toEqual([
      'counted',
      'duplicate',
    ]);
    expect(ledger.evidenceOf('a')).toMatchObject({ impressions: 1, rewards: 1, open: 0 });
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

describe('a log', () => {
  let folder: TemporaryFolder;
  let nowMs = 0;
  const clock: Clock = {
    epochMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: () => Promise.resolve(),
  };
  const open = (name = 'evidence.ndjson', byteCountMin = 1_000_000) =>
    openEvidenceLog({ path: join(folder.path, name), clock, feedback: feedbackOf(), byteCountMin });
  beforeEach(async () => {
    folder = await temporaryFolder();
    nowMs = 0;
  });
  afterEach(() => folder.remove());

  it('has on disk what it has acknowledged', async () => {
    const log = await open();
    await log.record([impression('i', 'a', 0), reward('i', 1)]);
    // The file at this moment is what a kill leaves.
    await copyFile(join(folder.path, 'evidence.ndjson'), join(folder.path, 'killed.ndjson'));
    await log.close();
    const restored = await open('killed.ndjson');
    expect(await restored.evidenceOf(['a'])).toMatchObject([{ impressions: 1, rewards: 1 }]);
    expect(await restored.record([impression('i', 'a', 0)])).toEqual(['duplicate']);
    await restored.close();
  });

  it('syncs batches that arrive together at once', async () => {
    const log = await open();
    const receipts = await Promise.all(
      Array.from({ length: 200 }, (_, index) => log.record([impression(`i${index}`, 'a', 0)])),
    );
    expect(new Set(receipts.flat())).toEqual(new Set(['counted']));
    await log.close();
    const lines = (await readFile(join(folder.path, 'evidence.ndjson'), 'utf8')).trim().split('\n');
    expect(lines.length).toBeLessThan(5);
    const restored = await open();
    expect(await restored.evidenceOf(['a'])).toMatchObject([{ open: 200 }]);
    await restored.close();
  });

  it('cuts off half a line, and goes on behind it', async () => {
    const log = await open();
    await log.record([impression('i', 'a', 0)]);
    await log.close();
    await appendFile(join(folder.path, 'evidence.ndjson'), '{"kind":"batch","nowMs":0,"eve');
    const cut = await open();
    expect(await cut.record([impression('j', 'a', 0)])).toEqual(['counted']);
    await cut.close();
    const restored = await open();
    expect(await restored.evidenceOf(['a'])).toMatchObject([{ open: 2 }]);
    await restored.close();
  });

  it('begins anew with a snapshot when it has grown', async () => {
    const log = await open('small.ndjson', 2000);
    for (let index = 0; index < 100; index += 1) {
      nowMs = index * 20 * S;
      await log.record([impression(`i${index}`, 'a', nowMs), reward(`i${index}`, nowMs + S)]);
    }
    await log.close();
    expect((await stat(join(folder.path, 'small.ndjson'))).size).toBeLessThan(4000);
    const restored = await open('small.ndjson');
    expect(await restored.evidenceOf(['a'])).toMatchObject([{ impressions: 100, rewards: 100 }]);
    expect(await restored.record([reward('i99', nowMs)])).toEqual(['duplicate']);
    await restored.close();
  });

  it('is not replaced for each batch by snapshots that are themselves larger than its bound', async () => {
    // Seen to fail: without regard to the size of the snapshots.
    const log = await open('large.ndjson', 2000);
    const [path, files] = [join(folder.path, 'large.ndjson'), new Set<number>()];
    const records = async (count: number): Promise<void> => {
      for (let index = 0; index < count; index += 1) {
        await log.record([impression(`${count}:${index}`, 'a', 0)]);
        files.add((await stat(path)).ino);
      }
    };
    await log.record(Array.from({ length: 400 }, (_, index) => impression(`i${index}`, 'a', 0)));
    await records(50);
    expect(files.size).toBeLessThan(3);
    await log.close();
    const again = await open('large.ndjson', 2000);
    expect(await again.evidenceOf(['a'])).toMatchObject([{ open: 450 }]);
    const before = (await stat(path)).ino;
    await again.record([impression('last', 'a', 0)]);
    expect((await stat(path)).ino).toBe(before);
    await again.close();
  });

  it('stands still while it is replaced, so that a window that ends meanwhile ends once', async () => {
    // Seen to fail: with windows that end between two snapshots.
    const before = await open('still.ndjson');
    for (let index = 0; index < 5; index += 1) {
      const ids = Array.from({ length: 1_000 }, (_, place) => `${index}:${place}`);
      await before.record(ids.map((id) => impression(id, 'a', 0)));
    }
    await before.close();
    const log = await open('still.ndjson', 2000);
    nowMs = 5 * S;
    const partByteCount = (): number => {
      const part = readdirSync(folder.path).find((name) => name.endsWith('.part'));
      const found = part && statSync(join(folder.path, part), { throwIfNoEntry: false });
      return found ? found.size : 0;
    };
    const ended = new AbortController();
    const recorded = log.record([reward('replacing', nowMs)]).then(() => ended.abort());
    while (!ended.signal.aborted) {
      if (partByteCount() > 50_000) nowMs = 11 * S;
      await log.evidenceOf(['a']);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await recorded;
    expect(nowMs).toBe(11 * S);
    await log.record([reward('unknown', nowMs)]);
    const all = { impressions: 5_000, rewards: 0, open: 0 };
    expect(await log.evidenceOf(['a'])).toMatchObject([all]);
    await log.close();
    const restored = await open('still.ndjson');
    expect(await restored.evidenceOf(['a'])).toMatchObject([all]);
    await restored.close();
  });

  it('is refused with more ids than memory has room for', async () => {
    const feedback = feedbackOf({ eventsMax: 20_000_000 });
    const path = join(folder.path, 'evidence.ndjson');
    await expect(openEvidenceLog({ path, clock, feedback })).rejects.toMatchObject({
      kind: 'usage',
      report: { where: 'feedback.eventsMax', expected: 'at most 10000000' },
    });
  });

  it('acknowledges nothing once another process has the folder', async () => {
    const path = join(folder.path, 'evidence.ndjson');
    const lost = (): Promise<never> =>
      Promise.reject(new QianmoError({ kind: 'usage', what: 'another has it' }));
    const log = await openEvidenceLog({ path, clock, feedback: feedbackOf(), assertOwned: lost });
    await expect(log.record([impression('i', 'a', 0)])).rejects.toThrow('another has it');
    await log.close();
    expect(await readFile(path, 'utf8')).toBe('');
  });

  it('names a damaged line', async () => {
    const path = join(folder.path, 'evidence.ndjson');
    await writeFile(path, '{"kind":"batch","nowMs":0,"events":[]}\n{"kind":"bat\n');
    await expect(open()).rejects.toMatchObject({ kind: 'data', report: { where: `${path}:2` } });
  });
});
