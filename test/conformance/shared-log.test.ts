/** Evidence in a file, in a file of the parent process and in Redis is that of one ledger, and survives a kill. */

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../shared/base/clock.js';
import {
  EvidenceLedger,
  eventsLine,
  keyLine,
  type EvidenceLog,
  type FeedbackEvent,
  type Receipt,
} from '../../worker/serving/exploration/evidence-ledger.js';
import { ParentLink, ProcessesState } from '../../worker/serving/processes/state-link.js';
import { RedisLog } from '../../worker/serving/state/redis-log.js';
import { FileLog } from '../../worker/serving/state/shared-log.js';
import { settingsOf } from '../fixtures/decision-input.js';
import { openedOnce } from '../fixtures/opened.js';
import { redisForTest } from '../fixtures/queue/redis-for-test.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';

const folder = openedOnce(temporaryFolder);
const redis = openedOnce(redisForTest);
beforeAll(async () => {
  await syncs('always');
});

const syncs = (when: string): Promise<unknown> => redis.client.config('SET', 'appendfsync', when);

const S = 1000;
const impression = (id: string, adgroup = 'a', epochMs = 0): FeedbackEvent => ({
  ...{ kind: 'impression', id, adgroup, epochMs, isExploration: false, propensity: 0.7 },
});
const reward = (id: string, epochMs: number, value = 1): FeedbackEvent => ({
  ...{ kind: 'reward', id, reward: value, epochMs },
});
const lifetimes = { windowSeconds: 10, eventLifetimeSeconds: 100, adgroupLifetimeSeconds: 1000 };
const { feedback } = settingsOf({ feedback: { ...lifetimes, eventsMax: 1_000, adgroupsMax: 10 } });
const makeState = () => new EvidenceLedger(feedback);

interface Room {
  open(name: string, clock?: Clock, byteCountMin?: number): Promise<EvidenceLog>;
  /** Ends what holds the log without a warning: what is acknowledged later does not count. */
  kill(): Promise<void>;
  restart(): Promise<void>;
}

type LedgerFile = FileLog<EvidenceLedger, Receipt[]>;

/** A killed process leaves the bytes that it has written: the file is copied before anything else can happen. */
function roomOfFiles(wrapped: (log: LedgerFile) => Promise<EvidenceLog>): Room {
  let killed = false;
  let opened = '';
  const pathOf = (name: string): string => join(folder.path, `${name}${killed ? '-killed' : ''}`);
  return {
    open: async (name, clock = systemClock, byteCountMin = 1e9) => {
      opened = name;
      const place = { path: pathOf(name), clock, byteCountMin };
      return wrapped(await FileLog.open<EvidenceLedger, Receipt[]>(makeState(), place));
    },
    kill: () => {
      killed = true;
      copyFileSync(join(folder.path, opened), pathOf(opened));
      return Promise.resolve();
    },
    restart: () => Promise.resolve(),
  };
}

const idleEngine = { start: () => Promise.resolve(), execute: () => Promise.reject(new Error()) };

/** A process whose parent has the file. Messages between them are copied, in turn. */
async function ofParent(log: LedgerFile): Promise<EvidenceLog> {
  const parent = new ProcessesState({ evidence: log }, idleEngine);
  const link = new ParentLink((request) => {
    const sent = structuredClone(request);
    setImmediate(() => void parent.hear(0, sent));
  });
  parent.join(0, (order) => {
    const sent = structuredClone(order);
    setImmediate(() => link.hear(sent));
  });
  const shared = await link.open<EvidenceLedger, Receipt[]>('evidence', makeState(), () =>
    log.nowMs(),
  );
  return { ...shared, close: () => log.close() };
}

function roomOfRedis(): Room {
  return {
    open: (name, clock = systemClock, byteCountMin = 1e9) =>
      RedisLog.open<EvidenceLedger, Receipt[]>({
        ...{ url: redis.url, name, clock, makeState, byteCountMin },
      }),
    kill: () => redis.server.kill(),
    restart: async () => {
      await redis.server.restart();
    },
  };
}

/** Events of few names, so that they meet. */
const batches = fc.array(
  fc.array(
    fc.record({
      kind: fc.constantFrom('impression', 'reward'),
      id: fc.constantFrom('1', '2', '3', '4', '5'),
      adgroup: fc.constantFrom('a', 'b', 'c'),
      agoMs: fc.constantFrom(0, 5 * S, 15 * S, 20 * S),
      value: fc.constantFrom(0, 1 / 3, 1),
    }),
    { maxLength: 6 },
  ),
  { minLength: 1, maxLength: 8 },
);

describe.each([
  ['a file', () => roomOfFiles((log) => Promise.resolve(log))],
  ['a file of the parent', () => roomOfFiles(ofParent)],
  ['Redis', roomOfRedis],
] as const)('evidence in %s', (kind, roomOf) => {
  let number = 0;
  const freshName = (): string => `${kind.replaceAll(' ', '-')}-${(number += 1)}`;

  it('counts as the ledger does, and after it was opened again', async () => {
    await fc.assert(
      fc.asyncProperty(batches, async (steps) => {
        const [room, name, ledger] = [roomOf(), freshName(), makeState()];
        const log = await room.open(name);
        const nowMs = log.nowMs();
        for (const step of steps) {
          const events = step.map(({ kind, id, adgroup, agoMs, value }) =>
            kind === 'impression'
              ? impression(id, adgroup, nowMs - agoMs)
              : reward(id, nowMs - agoMs, value),
          );
          expect(await log.append(eventsLine(events))).toEqual(ledger.take(events, nowMs));
        }
        const expectSame = ({ state }: EvidenceLog): void => {
          for (const adgroup of ['a', 'b', 'c']) {
            expect(state.evidenceOf(adgroup)).toEqual(ledger.evidenceOf(adgroup));
            expect(state.servedOf(adgroup)).toEqual(ledger.servedOf(adgroup));
          }
        };
        expectSame(log);
        await log.close();
        const again = await room.open(name);
        expectSame(again);
        await again.close();
      }),
      { numRuns: 15 },
    );
  });

  it('loses nothing that it has acknowledged and counts nothing twice when it is killed', async () => {
    const [name, room] = [freshName(), roomOf()];
    const killed = await room.open(name);
    await killed.append(keyLine('first'));
    await killed.append(keyLine('second'));
    const ids = Array.from({ length: 60 }, (_, index) => `i${index}`);
    const acknowledgedIds = new Set<string>();
    const recorded = ids.map(async (id) => {
      await killed.append(eventsLine([impression(id), reward(id, 1)]));
      acknowledgedIds.add(id);
    });
    await Promise.race(recorded);
    await room.kill();
    const acknowledgedInTime = new Set(acknowledgedIds);
    await room.restart();
    await Promise.allSettled(recorded);
    await killed.close().catch(() => undefined);
    const log = await room.open(name);
    expect(log.state.signingKey).toBe('first');
    // A client without an answer sends again, and so does one that is unsure.
    const again = await Promise.all(
      ids.map((id) => log.append(eventsLine([impression(id), reward(id, 1)]))),
    );
    for (const [place, id] of ids.entries())
      if (acknowledgedInTime.has(id)) expect(again[place]).toEqual(['duplicate', 'duplicate']);
    expect(acknowledgedInTime.size).toBeGreaterThan(0);
    const all = { impressions: ids.length, rewards: ids.length, open: 0 };
    expect(log.state.evidenceOf('a')).toMatchObject(all);
    await log.close();
  });

  it('is the same from snapshots of a long log', async () => {
    const [name, room] = [freshName(), roomOf()];
    const log = await room.open(name, systemClock, 2_000);
    for (let index = 0; index < 60; index += 1)
      await log.append(eventsLine([impression(`i${index}`)]));
    await log.close();
    const again = await room.open(name, systemClock, 2_000);
    expect(again.state.evidenceOf('a')).toMatchObject({ open: 60 });
    expect(await again.append(eventsLine([impression('i59')]))).toEqual(['duplicate']);
    await again.close();
  });
});

describe('Redis', () => {
  const open = (name: string, byteCountMin?: number) =>
    roomOfRedis().open(name, systemClock, byteCountMin);

  it('tells several servers the same, in one order, whoever makes snapshots', async () => {
    const logs = await Promise.all([open('several', 1_000), open('several', 1_000)]);
    const receipts = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        logs.map((log) => log.append(eventsLine([impression(`i${index}`)]))),
      ).flat(),
    );
    expect(receipts.flat().filter((receipt) => receipt === 'counted')).toHaveLength(40);
    for (const { state } of logs) expect(state.evidenceOf('a')).toMatchObject({ open: 40 });
    await Promise.all(logs.map((log) => log.close()));
  });

  it('is caught up with by a server whose next lines were removed', async () => {
    const log = await open('left-behind');
    await log.append(eventsLine([impression('i')]));
    const key = 'qianmo:{left-behind}:log';
    const fields = (text: string) => ['tag', 't', 'epochMs', '0', 'text', text];
    // A snapshot without anything, in place of the first two lines.
    const change = redis.client.multi().set('qianmo:{left-behind}:snapshot', '0-2');
    change.xadd(key, '0-*', ...fields(eventsLine([impression('j')]))).xtrim(key, 'MAXLEN', 0);
    await change.xadd(key, '0-*', ...fields(eventsLine([impression('k', 'b')]))).exec();
    while (log.state.evidenceOf('b').open !== 1) await systemClock.sleep(10);
    // Redis has the last one alone, and so has the state that is made again.
    expect(await log.append(eventsLine([impression('i')]))).toEqual(['counted']);
    await log.close();
  });

  it('acknowledges nothing while its file is not synced, and is refused without one', async () => {
    const log = await open('unsynced');
    await syncs('no');
    const unsynced = log.append(eventsLine([impression('i')]));
    await expect(unsynced).rejects.toMatchObject({ report: { found: /not on disk/ } });
    await syncs('everysec');
    expect(await log.append(eventsLine([impression('i')]))).toEqual(['duplicate']);
    await redis.client.config('SET', 'appendonly', 'no');
    await expect(open('refused')).rejects.toMatchObject({ kind: 'environment' });
    await expect(log.append(keyLine('k'))).rejects.toThrow(/on disk/);
    await redis.server.kill();
    await expect(log.append(keyLine('k'))).rejects.toThrow(/does not store/);
    expect(log.state.evidenceOf('a')).toMatchObject({ open: 1 });
    await log.close();
  });
});
