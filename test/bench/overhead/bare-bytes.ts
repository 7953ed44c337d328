/** The blobs of the bare exchange: keys of Redis. */

import { Redis } from 'ioredis';
import type { Part } from './overhead-cases.js';

/** The lists of records. */
export const BARE_LISTS = { jobs: 'bare-jobs', results: 'bare-results' };
/** The records that are sent, taken or answered at once: as many as a parcel holds. */
export const BARE_BATCH_COUNT = 32;
/** A job or a result of the loads has some 700 to 1,100. */
const BARE_RECORD_BYTE_COUNT = 900;

/** @param names within the length of a record. */
export function recordsOf(names: readonly string[]): string[] {
  return names.map((name) => name.padEnd(BARE_RECORD_BYTE_COUNT));
}

/** Waits for a record of the list, and takes those behind it. Returns their names. */
export async function takenNames(waiting: Redis, redis: Redis, list: string): Promise<string[]> {
  const [, first = ''] = (await waiting.brpop(list, 0)) ?? [];
  const others = (await redis.rpop(list, BARE_BATCH_COUNT - 1)) ?? [];
  return [first, ...others].map((record) => record.trimEnd());
}

interface BareBytes {
  readonly redis: Redis;
  put(names: readonly string[], bytes: Uint8Array): Promise<void>;
  get(names: readonly string[]): Promise<void>;
  drop(names: readonly string[]): Promise<void>;
}

export async function bareBytes({ redisUrl }: Pick<Part, 'redisUrl'>): Promise<BareBytes> {
  const redis = new Redis(redisUrl, { lazyConnect: true });
  await redis.connect();
  return {
    redis,
    put: async (names, bytes) => {
      const value = Buffer.from(bytes.buffer);
      await Promise.all(names.map((name) => redis.set(name, value)));
    },
    get: async (names) => {
      await Promise.all(names.map((name) => redis.getBuffer(name)));
    },
    drop: async (names) => {
      await redis.unlink(...names);
    },
  };
}
