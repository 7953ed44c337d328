/** The limits on what a job may ask of a worker's machine, whoever wrote it. */

import { describe, expect, it } from 'vitest';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import {
  openObjectStore,
  s3OptionsOf,
  StorageConfigSchema,
} from '../../../shared/storage/open-object-store.js';
import type { CarriedJob, Job, JoinJob } from '../../../shared/queue/protocol.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import { jobLimitsOf, reasonToRefuse } from '../../../worker/carrying/job-limits.js';

const ref = { sha256: 'a'.repeat(64), byteCount: 10 };

const work: Job['work'] = {
  ...{ kind: 'predict', method: { kind: 'global' }, rows: 'query' },
  adaptations: [{ innerRate: 1, innerSteps: 0 }],
};

function jobWith(changes: Partial<CarriedJob>): CarriedJob {
  const common = { timeoutMs: 1000, blobLifetimeMs: 1000, dense: ref, work };
  const job: Partial<CarriedJob> = { ...common, ...changes };
  // Only these parts of a job are looked at.
  return job as CarriedJob;
}

function jobOn(address: string, s3Endpoint?: string): CarriedJob {
  const endpoint = s3Endpoint === undefined ? {} : { s3Endpoint };
  const storage = StorageConfigSchema.parse(endpoint);
  return jobWith({ store: { address, digest: 'd', storage } });
}

const limits = jobLimitsOf({
  stores: ['/data/stores', 's3://clicks/stores'],
  endpoints: ['http://minio:9000'],
  workingFolder: '/home/ads',
  environment: { AWS_ENDPOINT_URL_S3: 'https://s3.internal' },
});

describe('the store of a job', () => {
  it.each([
    '/data/stores',
    '/data/stores/shop',
    '/data/other/../stores/shop',
    'file:///data/stores/shop',
    's3://clicks/stores',
    's3://clicks/stores/shop',
    's3://clicks//stores/shop/',
  ])('%s is opened', (address) => {
    expect(reasonToRefuse(jobOn(address), limits)).toBeNull();
  });

  it.each([
    '/etc',
    '/data',
    '/data/stores-of-others',
    '/data/stores/../secrets',
    'file:///data/stores/%2e%2e/secrets',
    'file://elsewhere/data/stores',
    'stores',
    's3://clicks',
    's3://clicks/stores-of-others',
    's3://clicks/stores/../secrets',
    's3://clicks-of-others/stores',
    's3://data/stores',
  ])('%s is refused, with what allows it', (address) => {
    expect(reasonToRefuse(jobOn(address), limits)).toMatch(
      new RegExp(`may not open ${address.replaceAll('.', '\\.')}: .*--store-allow`),
    );
  });

  it('and its large blobs have the same limits', () => {
    const storage = StorageConfigSchema.parse({ s3Endpoint: 'http://minio:9000' });
    const withBlobs = (address: string, changes: object = {}): string | null => {
      const largeBlobs = { address, byteCountMin: 1, storage: { ...storage, ...changes } };
      return reasonToRefuse({ ...jobOn('/data/stores'), largeBlobs }, limits);
    };
    expect(withBlobs('s3://clicks/stores/blobs')).toBeNull();
    expect(withBlobs('s3://secrets')).toMatch(/may not open s3:\/\/secrets/);
    const elsewhere = { s3Endpoint: 'http://elsewhere:9000' };
    expect(withBlobs('s3://clicks/stores', elsewhere)).toMatch(/may not send requests to/);
  });

  it.each([
    ['file:///data/stores/blobs', '/data/stores/blobs', true],
    ['file:///data/stores/100%25', '/data/stores/100%25', true],
    ['file:///data/stores/?/../../secrets', '/data/secrets', false],
    ['file:///data/stores/#/../../secrets', '/data/secrets', false],
    ['file://localhost/data/stores', process.cwd() + '/localhost/data/stores', false],
  ])('and large blobs at %s lie in %s', (address, folder, isAllowed) => {
    const storage = StorageConfigSchema.parse({});
    const opened = openObjectStore(address, s3OptionsOf(storage));
    expect(opened instanceof FileObjectStore && opened.folder).toBe(folder);
    const largeBlobs = { address, byteCountMin: 1, storage };
    const reason = reasonToRefuse({ ...jobOn('/data/stores'), largeBlobs }, limits);
    expect(reason === null).toBe(isAllowed);
  });
});

describe('the endpoint of a job', () => {
  it.each([undefined, 'http://minio:9000', 'http://minio:9000/', 'https://s3.internal'])(
    '%s is used',
    (endpoint) => {
      expect(reasonToRefuse(jobOn('s3://clicks/stores', endpoint), limits)).toBeNull();
    },
  );

  it.each(['http://minio:9001', 'https://minio:9000', 'http://evil.example', 'http://minio'])(
    '%s is refused, with what allows it',
    (endpoint) => {
      expect(reasonToRefuse(jobOn('s3://clicks/stores', endpoint), limits)).toContain(
        '--endpoint-allow',
      );
    },
  );
});

describe('the size of a job', () => {
  const joinOf = (sum: BlobRef): JoinJob['work'] => ({
    ...{ kind: 'join', stepLeafCount: 2 },
    nodes: [
      { first: 0, end: 1, sum },
      { first: 1, end: 2, sum },
    ],
  });
  const within = jobOn('/data/stores');
  it.each([
    ['time', { timeoutMs: 86_400_001 }, 'at most 86400000 ms'],
    ['lifetime of blobs', { blobLifetimeMs: 2 ** 40 }, 'keeps blobs for at most'],
    ['inputs', { frozen: { ...ref, byteCount: 4 * 1024 ** 3 } }, 'bytes of inputs'],
    ['sums to add', { work: joinOf({ ...ref, byteCount: 2 * 1024 ** 3 }) }, 'bytes of inputs'],
  ])('is bounded: %s', (_, changes, reason) => {
    expect(reasonToRefuse({ ...within, ...changes }, limits)).toContain(reason);
  });
});
