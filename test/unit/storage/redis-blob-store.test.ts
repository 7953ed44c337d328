/** How failures of Redis reach the caller of a blob store. */

import type { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import {
  REDIS_BLOB_PIECE_BYTE_COUNT,
  RedisBlobStore,
} from '../../../shared/storage/redis-blob-store.js';

/** A client whose writes all fail with `error`. */
function failingRedis(error: Error): Redis {
  const transaction = {
    hset: () => transaction,
    pexpire: () => transaction,
    exec: () => Promise.reject(error),
  };
  // Only the methods that a put calls.
  return {
    hlen: () => Promise.resolve(0),
    multi: () => transaction,
    set: () => Promise.reject(error),
  } as unknown as Redis;
}

async function putFailure(error: Error, byteCount: number): Promise<unknown> {
  const store = new RedisBlobStore({
    redis: failingRedis(error),
    prefix: '{test}',
    lifetimeMs: 1_000,
    blobByteCountMax: byteCount,
  });
  return store.put(new Uint8Array(byteCount)).catch((failure: unknown) => failure);
}

describe.each([1, REDIS_BLOB_PIECE_BYTE_COUNT + 1])('a failed put of %d bytes', (byteCount) => {
  it('is transient when the connection was lost, although ioredis lists the error within itself', async () => {
    const lost: Error & { previousErrors?: Error[] } = new Error('Connection is closed.');
    lost.previousErrors = [lost];
    expect(await putFailure(lost, byteCount)).toMatchObject({ kind: 'transient' });
  });

  it('names the memory limit that a refused transaction lists within itself', async () => {
    const refused = Object.assign(new Error('EXECABORT Transaction discarded'), {
      previousErrors: [new Error('OOM command not allowed')],
    });
    expect(await putFailure(refused, byteCount)).toMatchObject({
      kind: 'environment',
      report: { found: 'OOM command not allowed' },
    });
  });
});
