/** The version of a log in a real S3 bucket, whose listings tell times in whole seconds. */

import { beforeAll, describe, expect, it } from 'vitest';
import { RunRecord } from '../../coordinator/record/run-record.js';
import { objectLogPlace } from '../../shared/events/event-log.js';
import { openObjectStore } from '../../shared/storage/open-object-store.js';
import { openedOnce } from '../fixtures/opened.js';
import { canStartS3, S3_SUITE_SUFFIX, startS3Buckets } from '../fixtures/stores/s3-buckets.js';

const OUTPUT = 's3://record-place/run';

describe.skipIf(!canStartS3)(`a log in a bucket${S3_SUITE_SUFFIX}`, () => {
  const buckets = openedOnce(startS3Buckets);
  beforeAll(async () => {
    await buckets.makeBucket('record-place');
  });

  it('has another version after each time that it is put, also within a second', async () => {
    const log = objectLogPlace(openObjectStore(OUTPUT, buckets.options));
    const record = new RunRecord(OUTPUT, buckets.options);
    const versions = new Set([await record.version()]);
    for (let count = 1; count <= 5; count += 1) {
      await log.append('{}\n');
      await log.save();
      versions.add(await record.version());
    }
    expect(versions.size).toBe(6);
  });
});
