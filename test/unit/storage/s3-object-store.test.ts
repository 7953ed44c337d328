/** Answers of an S3 store that a well-behaved test server never gives; the answers are scripted. */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { S3ObjectStore } from '../../../shared/storage/s3-object-store.js';
import { expectFailureOf } from '../../fixtures/failures.js';

interface Answer {
  readonly status: number;
  readonly code?: string;
  readonly etag?: string;
  readonly body?: string | Buffer;
}

let server: Server;
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** Gives the answers in turn, the last one forever, and records the requests. */
async function scripted(...answers: Answer[]): Promise<{ store: S3ObjectStore; seen: string[] }> {
  const seen: string[] = [];
  server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      const conditions = [request.headers['if-none-match'], request.headers['if-match']];
      seen.push([request.method, ...conditions.filter((c) => c !== undefined)].join(' '));
      const answer = answers[Math.min(seen.length, answers.length) - 1] ?? { status: 500 };
      const xml = answer.code === undefined ? '' : `<Error><Code>${answer.code}</Code></Error>`;
      // Status 0: the connection breaks before an answer.
      if (answer.status === 0) return void response.destroy();
      response.writeHead(answer.status, { etag: answer.etag ?? '"e"' });
      response.end(answer.body ?? xml);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  // A server that listens on a port has an address of this form.
  const { port } = server.address() as AddressInfo;
  const store = new S3ObjectStore({
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    bucket: 'bucket',
    prefix: 'p',
  });
  return { store, seen };
}

const bytes = Buffer.from('mine');

it('retries a conflict until it is resolved', async () => {
  const conflict = { status: 409, code: 'ConditionalRequestConflict' };
  const { store, seen } = await scripted(conflict, conflict, { status: 200, etag: '"new"' });
  expect(await store.put('k', bytes, { kind: 'absent' })).toBe('"new"');
  expect(seen).toEqual(['PUT *', 'PUT *', 'PUT *']);
});

it('gives up on a listing that comes back to the same page', async () => {
  const body =
    '<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>' +
    '</ListBucketResult>';
  const { store, seen } = await scripted({ status: 200, body });
  await expectFailureOf(store.list(''), 'transient', {
    what: 'the object store does not come to the end of a listing',
  });
  expect(seen).toHaveLength(2);
});

it.each(['BadDigest', 'IncompleteBody'])(
  'repeats an upload that arrived with other bytes: %s',
  async (code) => {
    const corrupted = { status: 400, code };
    const { store, seen } = await scripted(corrupted, corrupted, { status: 200, etag: '"new"' });
    expect(await store.put('k', bytes, { kind: 'absent' })).toBe('"new"');
    expect(seen).toEqual(['PUT *', 'PUT *', 'PUT *']);
  },
);

it.each([
  [412, 'PreconditionFailed'],
  [404, 'NoSuchKey'],
])('treats %i %s as a condition that did not hold', async (status, code) => {
  const { store } = await scripted({ status, code });
  expect(await store.put('k', bytes, { kind: 'unchanged', etag: '"e"' })).toBeNull();
});

it('recognises its own write when the first answer was lost and the retry finds the object', async () => {
  const lost = { status: 500, code: 'InternalError' };
  const there = { status: 412, code: 'PreconditionFailed' };
  const own = await scripted(lost, there, { status: 200, etag: '"own"', body: 'mine' });
  expect(await own.store.put('k', bytes, { kind: 'absent' })).toBe('"own"');
  server.close();
  const other = await scripted(lost, there, { status: 200, etag: '"other"', body: 'theirs' });
  expect(await other.store.put('k', bytes, { kind: 'absent' })).toBeNull();
});

describe('an upload in parts', () => {
  const large = new Uint8Array(9 * 1024 * 1024).fill(7);
  const started = { status: 200, body: '<R><UploadId>u</UploadId></R>' };
  const part = { status: 200, etag: '"part"' };
  const lost = { status: 500, code: 'InternalError' };
  const aborted = { status: 404, code: 'NoSuchUpload' };

  it('is complete when the answer to its completion was lost', async () => {
    const { store, seen } = await scripted(
      ...[started, part, part],
      // The completion took place at the first request; the repeated one finds no upload.
      ...[lost, aborted, aborted],
      { status: 200, etag: '"own"', body: Buffer.from(large) },
    );
    expect(await store.put('k', large, { kind: 'absent' })).toBe('"own"');
    expect(seen.at(-1)).toBe('GET');
  });
});

it.each([
  [403, 'AccessDenied', 'environment', 'access to the object store was denied'],
  [403, 'InvalidAccessKeyId', 'environment', 'the object store does not accept the credentials'],
  [404, 'NoSuchBucket', 'environment', 'the bucket does not exist'],
  [301, 'PermanentRedirect', 'environment', 'the bucket is in another region'],
] as const)('explains %i %s', async (status, code, kind, what) => {
  const { store } = await scripted({ status, code });
  await expectFailureOf(store.put('k', bytes, { kind: 'always' }), kind, { what });
});
