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
const REDIS_BLOB_PIECE_BYTE_COUNT = 4 * 1024 * 1024;

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
    const { redis, lifetimeMs } = this.#options;
    if (isOnePiece(ref)) {
      const value = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      await redis.set(key, value, 'PX', lifetimeMs);
      this.bytesWritten += value.byteLength;
      return ref;
    }
    // Asking first costs a round trip, which only a large blob is worth.
    if (await this.has(ref)) return ref;
    for (const [index, { start, end }] of piecesOf(ref).entries()) {
      const piece = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start);
      // The lifetime is set with every piece, so an interrupted put leaves nothing behind.
      const put = redis.multi().hset(key, String(index), piece).pexpire(key, lifetimeMs);
      throwFirstError(await put.exec());
      this.bytesWritten += piece.byteLength;
    }
    return ref;
  }

  async get(ref: BlobRef): Promise<Uint8Array> {
    this.#refuseTooLarge(ref);
    const key = this.#keyOf(ref);
    try {
      const bytes = isOnePiece(ref) ? await this.#onePiece(ref) : await this.#allPieces(ref);
      return verifiedBlob(bytes, ref, key);
    } catch (error) {
      // A damaged blob is deleted, so that the owner of the bytes can put them again.
      if (error instanceof QianmoError) await this.#options.redis.unlink(key);
      if (!(error instanceof Error && error.message.startsWith('WRONGTYPE'))) throw error;
      throw new QianmoError({
        kind: 'data',
        what: 'a blob does not have the size of its reference',
        where: key,
        found: error.message,
        cure: 'the process that named the blob is damaged or lies: stop it',
        cause: error,
      });
    }
  }

  async #onePiece(ref: BlobRef): Promise<Uint8Array> {
    const { redis, lifetimeMs } = this.#options;
    const value = await redis.getexBuffer(this.#keyOf(ref), 'PX', lifetimeMs);
    if (value === null) throw new BlobMissingError(ref);
    this.bytesRead += value.byteLength;
    return value;
  }

  async #allPieces(ref: BlobRef): Promise<Uint8Array> {
    const key = this.#keyOf(ref);
    const pieces: Uint8Array[] = [];
    for (const [index, { start, end }] of piecesOf(ref).entries()) {
      // Sent together: the lifetime is renewed in the same round trip.
      const { redis, lifetimeMs } = this.#options;
      const asked = redis.pipeline().hgetBuffer(key, String(index)).pexpire(key, lifetimeMs);
      const replies = await asked.exec();
      throwFirstError(replies);
      const piece = replies?.[0]?.[1];
      if (!(piece instanceof Uint8Array)) throw new BlobMissingError(ref);
      this.bytesRead += piece.byteLength;
      // Bytes beyond the piece are not part of the blob. Missing ones fail the verification.
      pieces.push(piece.subarray(0, end - start));
    }
    return Buffer.concat(pieces);
  }

  /** Deletions of one turn of the event loop are one command: each command wakes the server. */
  async delete(ref: BlobRef): Promise<void> {
    const key = this.#keyOf(ref);
    this.#unlinkKeys.add(key);
    this.#unlinking ??= new Promise((resolve, reject) => {
      setImmediate(() => void this.#unlinked().then(resolve, reject));
    });
    await this.#unlinking;
  }

  async #unlinked(): Promise<void> {
    const keys = [...this.#unlinkKeys];
    this.#unlinkKeys.clear();
    this.#unlinking = null;
    if (keys.length > 0) await this.#options.redis.unlink(...keys);
  }

  /** If every piece exists, the lifetime is renewed. */
  async has(ref: BlobRef): Promise<boolean> {
    const { redis, lifetimeMs } = this.#options;
    const key = this.#keyOf(ref);
    if (!isOnePiece(ref) && (await redis.hlen(key)) !== piecesOf(ref).length) return false;
    return (await redis.pexpire(key, lifetimeMs)) === 1;
  }

  #keyOf(ref: BlobRef): string {
    return `${this.#options.prefix}:blob:${ref.sha256}`;
  }

  #refuseTooLarge(ref: BlobRef): void {
    const { blobByteCountMax } = this.#options;
    if (ref.byteCount > blobByteCountMax)
      throw tooLargeBlob(ref, this.#keyOf(ref), blobByteCountMax);
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
