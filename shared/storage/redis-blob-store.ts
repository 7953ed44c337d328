/**
 * Blobs in Redis: a string, or for a large blob a hash of pieces, so that no command blocks the server's
 * other clients for long, with one lifetime that every use renews. The only file that puts blobs there.
 *
 * A blob of one piece takes one command each way. Pipelines and transactions of the client cost as much as
 * carrying 64 KiB: each one copies every script of the connection (decision 0014).
 */

import type { Redis } from 'ioredis';
import { QianmoError } from '../base/errors.js';
import {
  BlobMissingError,
  blobRefOf,
  tooLargeBlob,
  verifiedBlob,
  type BlobRef,
  type BlobStore,
} from './blob-store.js';

/**
 * A command of 64 MiB makes every other client wait 0.1 s, one of 4 MiB about 6 ms.
 *
 * A client that writes larger values makes readers hold them, one at a time. Asking for the size first would
 * cost every read a round trip, and a script a copy of the value, so the bound is the server's
 * `proto-max-bulk-len` (infra/docs/machines.md).
 */
export const REDIS_BLOB_PIECE_BYTE_COUNT = 4 * 1024 * 1024;

interface RedisBlobStoreOptions {
  /** The caller owns the connection, listens to its errors and closes it. It has no `keyPrefix`. */
  readonly redis: Redis;
  /** The prefix of keys, in braces: `{qianmo}`. */
  readonly prefix: string;
  /** How long a blob outlives its last put or get. */
  readonly lifetimeMs: number;
  /** Larger blobs are refused. */
  readonly blobByteCountMax: number;
}

export class RedisBlobStore implements BlobStore {
  readonly #options: RedisBlobStoreOptions;
  /** Bytes sent to and received from Redis by this store. */
  bytesWritten = 0;
  bytesRead = 0;
  readonly #unlinkKeys = new Set<string>();
  #unlinking: Promise<void> | null = null;

  constructor(options: RedisBlobStoreOptions) {
    this.#options = options;
  }

  async put(bytes: Uint8Array, ref = blobRefOf(bytes)): Promise<BlobRef> {
    this.#refuseTooLarge(ref);
    const key = this.#keyOf(ref);
    // A blob that is put again must not be deleted.
    this.#unlinkKeys.delete(key);
    await this.#carried(key, async (redis) => {
      if (isOnePiece(ref)) {
        const value = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        await redis.set(key, value, 'PX', this.#options.lifetimeMs);
        this.bytesWritten += value.byteLength;
        return;
      }
      // Asking first costs a round trip, which only a large blob is worth.
      if (await this.#renewWhole(redis, ref)) return;
      const pieces = piecesOf(ref);
      for (const [index, { start, end }] of pieces.entries()) {
        const piece = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start);
        // The lifetime is set with every piece, so that an interrupted put leaves nothing behind
        // for ever.
        const replies = await redis
          .multi()
          .hset(key, String(index), piece)
          .pexpire(key, this.#options.lifetimeMs)
          .exec();
        throwFirstError(replies);
        this.bytesWritten += piece.byteLength;
      }
    });
    return ref;
  }

  async get(ref: BlobRef): Promise<Uint8Array> {
    this.#refuseTooLarge(ref);
    const key = this.#keyOf(ref);
    return this.#carried(key, async (redis) => {
      const bytes = isOnePiece(ref)
        ? await this.#onePiece(redis, ref)
        : await this.#allPieces(redis, ref);
      try {
        return verifiedBlob(bytes, ref, key);
      } catch (spoilt) {
        // A damaged blob is deleted, so that the owner of the bytes can put them again.
        await redis.unlink(key);
        throw spoilt;
      }
    });
  }

  async #onePiece(redis: Redis, ref: BlobRef): Promise<Uint8Array> {
    const value = await redis.getexBuffer(this.#keyOf(ref), 'PX', this.#options.lifetimeMs);
    if (value === null) throw new BlobMissingError(ref);
    this.bytesRead += value.byteLength;
    return value;
  }

  async #allPieces(redis: Redis, ref: BlobRef): Promise<Uint8Array> {
    const key = this.#keyOf(ref);
    const pieces: Uint8Array[] = [];
    for (const [index, { start, end }] of piecesOf(ref).entries()) {
      // Sent together: the lifetime is renewed in the same round trip.
      const replies = await redis
        .pipeline()
        .hgetBuffer(key, String(index))
        .pexpire(key, this.#options.lifetimeMs)
        .exec();
      throwFirstError(replies);
      const piece = replies?.[0]?.[1];
      if (!(piece instanceof Uint8Array)) throw new BlobMissingError(ref);
      this.bytesRead += piece.byteLength;
      // Bytes beyond the piece are not part of the blob. Missing ones fail the verification.
      pieces.push(piece.subarray(0, end - start));
    }
    return Buffer.concat(pieces);
  }

  /** Renews the lifetime of the pieces that exist. */
  has(ref: BlobRef): Promise<boolean> {
    return this.#carried(this.#keyOf(ref), (redis) => this.#renewWhole(redis, ref));
  }

  /** Deletions of one turn of the event loop are one command: each command wakes the server. */
  async delete(ref: BlobRef): Promise<void> {
    const key = this.#keyOf(ref);
    this.#unlinkKeys.add(key);
    this.#unlinking ??= new Promise((resolve, reject) => {
      setImmediate(() => void this.#unlinked().then(resolve, reject));
    });
    const unlinking = this.#unlinking;
    await this.#carried(key, () => unlinking);
  }

  async #unlinked(): Promise<void> {
    const keys = [...this.#unlinkKeys];
    this.#unlinkKeys.clear();
    this.#unlinking = null;
    if (keys.length > 0) await this.#options.redis.unlink(...keys);
  }

  /** Returns whether every piece exists. If so, the lifetime is renewed. */
  async #renewWhole(redis: Redis, ref: BlobRef): Promise<boolean> {
    const key = this.#keyOf(ref);
    if (!isOnePiece(ref) && (await redis.hlen(key)) !== piecesOf(ref).length) return false;
    return (await redis.pexpire(key, this.#options.lifetimeMs)) === 1;
  }

  #keyOf(ref: BlobRef): string {
    return `${this.#options.prefix}:blob:${ref.sha256}`;
  }

  #refuseTooLarge(ref: BlobRef): void {
    const { blobByteCountMax } = this.#options;
    if (ref.byteCount > blobByteCountMax)
      throw tooLargeBlob(ref, this.#keyOf(ref), blobByteCountMax);
  }

  async #carried<Result>(
    key: string,
    operation: (redis: Redis) => Promise<Result>,
  ): Promise<Result> {
    try {
      return await operation(this.#options.redis);
    } catch (cause) {
      if (cause instanceof BlobMissingError || cause instanceof QianmoError) throw cause;
      throw redisFailure(cause, key);
    }
  }
}

interface PieceBounds {
  readonly start: number;
  readonly end: number;
}

function isOnePiece({ byteCount }: BlobRef): boolean {
  return byteCount <= REDIS_BLOB_PIECE_BYTE_COUNT;
}

function piecesOf(ref: BlobRef): PieceBounds[] {
  const pieceCount = Math.ceil(ref.byteCount / REDIS_BLOB_PIECE_BYTE_COUNT);
  return Array.from({ length: pieceCount }, (_, index) => ({
    start: index * REDIS_BLOB_PIECE_BYTE_COUNT,
    end: Math.min(ref.byteCount, (index + 1) * REDIS_BLOB_PIECE_BYTE_COUNT),
  }));
}

function throwFirstError(replies: [error: Error | null, result: unknown][] | null): void {
  if (replies === null) throw new Error('Redis dropped a transaction');
  for (const [error] of replies) if (error !== null) throw error;
}

/**
 * A transaction refused for lack of memory is reported as EXECABORT with the reason among the previous
 * errors. Only one level is read, because after a lost connection ioredis lists an error among its own
 * previous errors.
 */
function messagesOf(cause: unknown): string[] {
  const previous: unknown =
    cause instanceof Error && 'previousErrors' in cause ? cause.previousErrors : [];
  const causes: unknown[] = Array.isArray(previous) ? [cause, ...(previous as unknown[])] : [cause];
  return causes.map((one) => (one instanceof Error ? one.message : String(one)));
}

function redisFailure(cause: unknown, key: string): QianmoError {
  const messages = messagesOf(cause);
  if (messages.some((message) => message.startsWith('OOM')))
    return new QianmoError({
      kind: 'environment',
      what: 'Redis has no memory left for a blob',
      where: key,
      found: messages.at(-1) ?? '',
      cure: 'raise its maxmemory, or lower queue.blobLifetimeMs',
      cause,
    });
  if (messages.some((message) => message.startsWith('WRONGTYPE')))
    return new QianmoError({
      kind: 'data',
      what: 'a blob does not have the size of its reference',
      where: key,
      expected: 'a text for one piece, a hash for several',
      found: messages.at(-1) ?? '',
      cure: 'whoever named the blob is damaged or lies: stop it',
      cause,
    });
  return new QianmoError({
    kind: 'transient',
    what: 'Redis did not store or return a blob',
    where: key,
    cure: 'check that the Redis server is running and reachable, then try again',
    cause,
  });
}
