/** The log of one machine and the Redis of several keep evidence alike. */

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEvidenceLog } from '../../worker/serving/evidence/evidence-log.js';
import { openRedisEvidence } from '../../worker/serving/evidence/redis-evidence.js';
import { redisForTest, type RedisForTest } from '../fixtures/queue/redis-for-test.js';
import { temporaryFolder, type TemporaryFolder } from '../fixtures/temporary-folder.js';
import {
  describeEvidenceStore,
  feedbackOf,
  impression,
  steeredClock,
  type EvidenceRoom,
} from './evidence-store.js';

let folder: TemporaryFolder;
let redis: RedisForTest;
beforeAll(async () => {
  folder = await temporaryFolder();
  redis = await redisForTest();
  await syncs('always');
});
afterAll(async () => {
  await redis.close();
  await folder.remove();
});

const syncs = (when: string): Promise<unknown> => redis.client.config('SET', 'appendfsync', when);

/** A killed process leaves the bytes that it has written: the file is copied before anything else can happen. */
function roomOfLogs(): EvidenceRoom {
  const pathOf = (name: string): string => join(folder.path, `${name}${killed ? '-killed' : ''}`);
  let killed = false;
  let opened = '';
  return {
    open: (name, options) => {
      opened = name;
      return openEvidenceLog({ ...options, path: pathOf(name) });
    },
    kill: () => {
      killed = true;
      copyFileSync(join(folder.path, opened), pathOf(opened));
      return Promise.resolve();
    },
    restart: () => Promise.resolve(),
  };
}

function roomOfRedis(): EvidenceRoom {
  return {
    open: (name, options) => openRedisEvidence({ ...options, name, url: redis.url }),
    kill: () => redis.server.kill(),
    restart: async () => {
      await redis.server.restart();
    },
  };
}

describeEvidenceStore('a log', roomOfLogs);
describeEvidenceStore('Redis', roomOfRedis);

describe('Redis', () => {
  it('restarts without a loss when its file is synced every second', async () => {
    const options = { name: 'each-second', url: redis.url };
    const [clock, feedback] = [steeredClock(), feedbackOf()];
    await syncs('everysec');
    const store = await openRedisEvidence({ ...options, clock, feedback });
    await store.record([impression('i', 'a', 0)]);
    await redis.server.kill();
    await redis.server.restart();
    await store.close();
    const opened = await openRedisEvidence({ ...options, clock, feedback });
    expect(await opened.record([impression('i', 'a', 0)])).toEqual(['duplicate']);
    expect(await opened.evidenceOf(['a'])).toMatchObject([{ open: 1 }]);
    await opened.close();
  });

  it('acknowledges nothing while its file is written and not synced', async () => {
    const [clock, feedback] = [steeredClock(), feedbackOf()];
    await syncs('no');
    const store = await openRedisEvidence({ name: 'unsynced', url: redis.url, clock, feedback });
    const unsynced = store.record([impression('i', 'a', 0)]);
    await expect(unsynced).rejects.toThrow(/did not bring its data to disk in time/);
    await syncs('everysec');
    expect(await store.record([impression('i', 'a', 0)])).toEqual(['duplicate']);
    expect(await store.evidenceOf(['a'])).toMatchObject([{ open: 1 }]);
    await store.close();
  });

  it('counts what several servers record at once', async () => {
    const [clock, feedback] = [steeredClock(), feedbackOf()];
    const open = () => openRedisEvidence({ name: 'several', url: redis.url, clock, feedback });
    const stores = await Promise.all([open(), open()]);
    const receipts = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        stores.map((store) => store.record([impression(`i${index}`, 'a', 0)])),
      ).flat(),
    );
    expect(receipts.flat().filter((receipt) => receipt === 'counted')).toHaveLength(40);
    for (const store of stores) expect(await store.evidenceOf(['a'])).toMatchObject([{ open: 40 }]);
    await Promise.all(stores.map((store) => store.close()));
  });

  it('forgets by itself what nobody calls again', async () => {
    const keys = await redis.client.keys('qianmo:{evidence:several}*');
    expect(keys.length).toBeGreaterThan(40);
    for (const key of keys) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
  });

  it('is refused without an append-only file, and when it does not answer', async () => {
    const [clock, feedback] = [steeredClock(), feedbackOf()];
    const options = { name: 'refused', url: redis.url, clock, feedback };
    const store = await openRedisEvidence(options);
    await redis.client.config('SET', 'appendonly', 'no');
    await expect(openRedisEvidence(options)).rejects.toMatchObject({ kind: 'environment' });
    await expect(store.record([impression('i', 'a', 0)])).rejects.toThrow(/on disk/);
    await redis.server.kill();
    await expect(store.record([impression('j', 'a', 0)])).rejects.toThrow(/does not answer/);
    await store.close();
  });
});
