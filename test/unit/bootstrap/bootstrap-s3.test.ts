// The S3 server for tests honours conditional writes; the tests of stores depend on that.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, it } from 'vitest';
import { findS3Server, startS3Server } from '../../../infra/bootstrap/s3-server.mjs';

it.skipIf(findS3Server() === null)(
  'refuses to overwrite under IfNoneMatch and IfMatch',
  async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'qianmo-s3-'));
    const server = await startS3Server({ dataDir });
    const { endpoint, region, accessKeyId, secretAccessKey } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
    const put = (Body: string, condition: { IfNoneMatch?: string; IfMatch?: string }) =>
      client.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'key', Body, ...condition }));
    const refused = { $metadata: { httpStatusCode: 412 } };
    try {
      await client.send(new CreateBucketCommand({ Bucket: 'bucket' }));
      const first = await put('one', { IfNoneMatch: '*' });
      await expect(put('two', { IfNoneMatch: '*' })).rejects.toMatchObject(refused);
      await put('two', { IfMatch: first.ETag ?? '' });
      await expect(put('three', { IfMatch: first.ETag ?? '' })).rejects.toMatchObject(refused);
    } finally {
      client.destroy();
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    }
  },
);
