/** Redis and the object store when they are down, misconfigured or refuse; a port that is in use. */

import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterEach, beforeAll, describe, expect, it, vi, onTestFinished } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { commandRoom, type ExpectedFailure } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { canStartS3, S3_SUITE_SUFFIX, startS3Buckets } from '../../fixtures/stores/s3-buckets.js';

/** Nothing listens on port 1. */
const NOBODY = 'redis://127.0.0.1:1';

const room = openedOnce(commandRoom);
let run: string;
beforeAll(async () => {
  run = await room.config('run');
  await room.done(['prepare', run]);
});

describe('Redis', () => {
  const redis = openedOnce(redisForTest);

  const verbs: readonly (readonly string[])[] = [
    ['train', 'run.yaml', '--workers', '1'],
    ['worker'],
  ];

  it.each([...verbs, ['dashboard', '--port', '0']])('down: %s', async (...verb) => {
    await room.refused([...verb, '--redis', NOBODY], {
      exitCode: 3,
      what: /^Redis does not answer$/,
      where: /^redis:\/\/127\.0\.0\.1:1$/,
      found: /ECONNREFUSED/,
      cure: /start the server .* or correct --redis or queue\.redisUrl/,
    });
  });

  it.each(verbs)('with an evicting policy: %s', async (...verb) => {
    await redis.client.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await room.refused([...verb, '--redis', redis.url], {
      exitCode: 3,
      what: /^Redis may evict keys/,
      where: /^127\.0\.0\.1:\d+$/,
      expected: /maxmemory-policy noeviction/,
      found: /maxmemory-policy allkeys-lru/,
      cure: /CONFIG SET maxmemory-policy noeviction/,
    });
    await redis.client.config('SET', 'maxmemory-policy', 'noeviction');
  });

  it('whose blobs were cut short or changed: the job is retried with whole ones', async () => {
    const training = room.ended(['train', run, '--redis', redis.url]);
    while ((await redis.client.llen('{run}:inner-loops:wait')) < 4) await systemClock.sleep(5);
    const keys = await redis.client.keys('{run}:blob:*');
    expect(keys.length).toBeGreaterThan(1);
    for (const [place, key] of keys.entries()) {
      const bytes = (await redis.client.getBuffer(key)) ?? Buffer.alloc(0);
      const changed = Buffer.concat([bytes.subarray(0, -1), Buffer.from('?')]);
      const damaged = place % 2 === 0 ? bytes.subarray(0, 10) : changed;
      await redis.client.set(key, damaged, 'KEEPTTL');
    }
    const worker = room.start(['worker', '--redis', redis.url, '--prefix', '{run}']);
    const { exitCode, diagnostics } = await training;
    worker.signal('SIGTERM');
    expect((await worker.ended).exitCode).toBe(0);
    expect(exitCode, diagnostics).toBe(0);
    expect(diagnostics).toMatch(/is tried again: a blob does not match its reference/);
  });
});

it('a port that is in use', async () => {
  const redis = await redisForTest();
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const address = other.address();
  const port = typeof address === 'object' && address !== null ? String(address.port) : '';
  onTestFinished(async () => {
    other.close();
    await redis.close();
  });
  await room.refused(['dashboard', '--redis', redis.url, '--port', port], {
    exitCode: 3,
    what: /^another program listens on this port$/,
    where: new RegExp(`^127\\.0\\.0\\.1:${port}$`),
    found: /EADDRINUSE/,
    cure: /another --port, or 0/,
  });
});

describe.skipIf(!canStartS3)(`an object store${S3_SUITE_SUFFIX}`, () => {
  const s3 = openedOnce(startS3Buckets);
  let credentials: Record<string, string>;
  beforeAll(async () => {
    credentials = {
      AWS_ACCESS_KEY_ID: s3.options.credentials?.accessKeyId ?? '',
      AWS_SECRET_ACCESS_KEY: s3.options.credentials?.secretAccessKey ?? '',
    };
    await s3.makeBucket('there');
  });

  afterEach(() => void vi.unstubAllEnvs());

  async function refusedAt(
    place: 'logs' | 'store' | 'output',
    bucket: string,
    environment: Record<string, string>,
    expected: Pick<ExpectedFailure, 'what' | 'found' | 'cure'>,
    endpoint = s3.options.endpoint,
  ): Promise<void> {
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    const address = `s3://${bucket}/${place === 'logs' ? 'log.csv' : place}`;
    const path = await room.config(place, (config) => {
      config['storage'] = { s3Endpoint: endpoint };
      if (place === 'output') config['output'] = address;
      else config.data[place] = address;
    });
    await room.refused([place === 'output' ? 'train' : 'prepare', path], {
      ...{ exitCode: 3, where: new RegExp(`s3://${bucket}/.* at ${endpoint}`), ...expected },
    });
  }

  it.each(['logs', 'output'] as const)('without the bucket of %s', async (place) => {
    await refusedAt(place, 'missing', credentials, {
      what: /^the bucket does not exist$/,
      found: /404/,
      cure: /create the bucket, or correct its name/,
    });
  });

  it('that denies the store', async () => {
    const wrong = { ...credentials, AWS_SECRET_ACCESS_KEY: 'wrong' };
    await refusedAt('store', 'there', wrong, {
      what: /does not accept the credentials|access to the object store was denied/,
      found: /403/,
      cure: /AWS_SECRET_ACCESS_KEY|allow GetObject/,
    });
  });

  it('without credentials', async () => {
    const none = {
      AWS_ACCESS_KEY_ID: '',
      AWS_SECRET_ACCESS_KEY: '',
      AWS_EC2_METADATA_DISABLED: 'true',
    };
    await refusedAt('store', 'there', none, {
      what: /^there are no credentials/,
      cure: /AWS_ACCESS_KEY_ID/,
    });
  });

  it('that is down', async () => {
    await refusedAt(
      'store',
      'there',
      credentials,
      { what: /cannot be reached$/, found: /ECONNREFUSED/, cure: /storage\.s3Endpoint/ },
      'http://127.0.0.1:1',
    );
  });
});
