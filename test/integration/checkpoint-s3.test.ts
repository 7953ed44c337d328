/** Checkpoints in a real S3-compatible store: resume, damage, fencing. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { S3ObjectStore } from '../../shared/storage/s3-object-store.js';
import { checkpointsIn } from '../fixtures/stores/checkpoint-stores.js';
import {
  canStartS3,
  S3_SUITE_SUFFIX,
  startS3Buckets,
  type S3Buckets,
} from '../fixtures/stores/s3-buckets.js';
import { bitsOf, tinySpec, tinyState } from '../fixtures/training-states.js';

const spec = tinySpec();

describe.skipIf(!canStartS3)(`checkpoints on an S3 server${S3_SUITE_SUFFIX}`, () => {
  let s3: S3Buckets;
  beforeAll(async () => {
    s3 = await startS3Buckets();
    await s3.makeBucket('checkpoints');
  });
  afterAll(() => s3.stop());
  const storeAt = (prefix: string): ObjectStore =>
    new S3ObjectStore({ ...s3.options, bucket: 'checkpoints', prefix });

  it('resume bit for bit, keep the newest, and report their addresses', async () => {
    const writer = checkpointsIn(storeAt('resume'), { kept: 2 });
    let address = '';
    for (let outerStep = 1; outerStep <= 4; outerStep += 1)
      ({ address } = await writer.write(tinyState(spec, outerStep)));
    expect(address).toMatch(/^s3:\/\/checkpoints\/resume\/manifests\/000000004-[0-9a-f]{8}\.json$/);
    const reader = checkpointsIn(storeAt('resume'));
    expect(bitsOf((await reader.latest())!)).toEqual(bitsOf(tinyState(spec, 4)));
    expect(reader.warnings).toEqual([]);
    expect(await storeAt('resume').list('manifests/')).toHaveLength(2);
    await reader.write(tinyState(spec, 5));
    await expect(writer.write(tinyState(spec, 5))).rejects.toMatchObject({ kind: 'failed' });
  });

  it('fall back when a blob was truncated', async () => {
    const store = storeAt('damage');
    const writer = checkpointsIn(store);
    await writer.write(tinyState(spec, 1));
    const before = new Set(await store.list('blobs/'));
    await writer.write(tinyState(spec, 2));
    const [fresh] = (await store.list('blobs/')).filter((key) => !before.has(key));
    const { bytes } = (await store.get(fresh!))!;
    await store.put(fresh!, bytes.subarray(0, 8), { kind: 'always' });
    const reader = checkpointsIn(store);
    expect(bitsOf((await reader.latest())!)).toEqual(bitsOf(tinyState(spec, 1)));
    expect(reader.warnings).toHaveLength(2);
  });

  it('let exactly one of several coordinators continue', async () => {
    const first = checkpointsIn(storeAt('race'));
    await first.write(tinyState(spec, 1));
    const rivals = Array.from({ length: 4 }, () => checkpointsIn(storeAt('race')));
    for (const rival of rivals) await rival.latest();
    const outcomes = await Promise.allSettled(
      rivals.map((rival, index) => rival.write(tinyState(spec, 2 + (index % 2)))),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const reader = checkpointsIn(storeAt('race'));
    expect(await reader.latest()).not.toBeNull();
    expect(reader.warnings).toEqual([]);
  });
});
