/**
 * A server of bundles in a real S3: it answers while the bucket does not, while files of the next bundle cannot be
 * fetched, and while the disk of its cache is full, and swaps when that is over. Every answer is of the bundle it names.
 */

import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { moveLabel } from '../../../../shared/bundle/bundle-store.js';
import { S3ObjectStore } from '../../../../shared/storage/s3-object-store.js';
import { s3FaultProxy } from '../../../fixtures/faults/s3-fault-proxy.js';
import { canMountDisks, smallDisk } from '../../../fixtures/faults/small-disk.js';
import { serveCommand } from '../../../fixtures/serving/served-command.js';
import { twoBundles, type TwoBundles } from '../../../fixtures/serving/served-export.js';
import {
  canStartS3,
  S3_SUITE_SUFFIX,
  startS3Buckets,
} from '../../../fixtures/stores/s3-buckets.js';
import { openedOnce } from '../../../fixtures/opened.js';
import { checkedScore } from '../../../fixtures/serving/mapped-server.js';

const DISK_BYTE_COUNT = 8 * 2 ** 20;
/** More than one request of a file is tried, so that the server sees the fault and then its end. */
const FAULTS = 8;

const isPossible = canStartS3 && canMountDisks;
const suffix = isPossible ? '' : `${S3_SUITE_SUFFIX} (SKIPPED without a small disk)`;

describe.skipIf(!isPossible)(`bundles in S3${suffix}`, () => {
  const disk = openedOnce(() => Promise.resolve(smallDisk(DISK_BYTE_COUNT)));
  const buckets = openedOnce(startS3Buckets);
  const proxy = openedOnce(() => s3FaultProxy(buckets.options.endpoint));
  let bundles: TwoBundles;
  let store: S3ObjectStore;
  beforeAll(async () => {
    await buckets.makeBucket('models');
    store = new S3ObjectStore({ ...buckets.options, bucket: 'models', prefix: 'shop' });
    bundles = await twoBundles(store);
  });

  async function expectScoresOf(url: string, digest: string): Promise<void> {
    expect(await checkedScore(url, bundles)).toBe(digest);
  }

  test('are served through faults of the bucket and a full disk of the cache', async () => {
    const { credentials } = buckets.options;
    const cache = join(disk.folder, 'cache');
    const { command, url, stop } = await serveCommand(
      ...([disk.folder, 's3://models/shop'] as const),
      ['--cache', cache, '--cache-gib', '0.01', '--poll-seconds', '0.1'],
      {
        ...{ AWS_REGION: 'us-east-1', AWS_ENDPOINT_URL_S3: proxy.endpoint },
        AWS_ACCESS_KEY_ID: credentials?.accessKeyId ?? '',
        AWS_SECRET_ACCESS_KEY: credentials?.secretAccessKey ?? '',
      },
    );
    const [first, second] = bundles.digests;
    await expectScoresOf(url, first);

    // The bucket does not answer.
    void proxy.fail(
      { method: 'GET', path: /labels/, times: FAULTS },
      { kind: 'refused', status: 500 },
    );
    await command.saw(/label latest cannot be read/);
    await expectScoresOf(url, first);

    // The disk of the cache is full.
    await disk.fill(0);
    await moveLabel(store, 'latest', second);
    await command.saw(
      new RegExp(`${second.slice(0, 12)} is refused, and the earlier one stays: .*disk is full`),
    );
    await expectScoresOf(url, first);
    await disk.free();
    await command.saw(new RegExp(`serving bundle ${second.slice(0, 12)} in place of`));
    await expectScoresOf(url, second);

    // Files of the next bundle cannot be fetched, and those that are mapped are gone from the cache.
    for (const name of await readdir(cache)) await rm(join(cache, name));
    void proxy.fail(
      { method: 'GET', path: /blobs/, times: FAULTS },
      { kind: 'refused', status: 500 },
    );
    await moveLabel(store, 'latest', first);
    await command.saw(new RegExp(`${first.slice(0, 12)} is refused, and the earlier one stays`));
    await expectScoresOf(url, second);
    await command.saw(new RegExp(`serving bundle ${first.slice(0, 12)} in place of`));
    await expectScoresOf(url, first);
    await stop();
  });
});
