/**
 * Blobs in Redis: a string for each piece of a blob, so that no command blocks the server's other clients for long. Every
 * use renews the lifetime of all its pieces. The only file that puts blobs there.
 *
 * A piece takes one command each way. Pipelines and transactions of the client cost as much as carrying 64 KiB: each one
 * copies every script of the connection (decision 0014).
 */

import { createHash } from 'node:crypto';
import type { Writable } from 'node:stream';
import { Command, type Redis } from 'ioredis';
import { unfilledBytes } from '../base/arrays.js';
import { QianmoError, errorOf } from '../base/errors.js';
import {
  assertDigest,
  BlobMissingError,
  blobRefOf,
  tooLargeBlob,
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

/** Of one blob. A server runs the commands that it has of a client back to back, and locks and heartbeats wait for all of them. */
const PIECES_IN_FLIGHT_MAX = 4;

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

  /** The bytes must stay as they are until they are stored. */
  async put(bytes: Uint8Array, ref = blobRefOf(bytes)): Promise<BlobRef> {
    this.#refuseTooLarge(ref);
    const { redis, lifetimeMs } = this.#options;
    const puts: Promise<unknown>[] = [];
    for (const { key, start, end } of this.#piecesOf(ref)) {
      if (puts.length === PIECES_IN_FLIGHT_MAX) await puts.shift();
      // A blob that is put again must not be deleted.
      this.#unlinkKeys.delete(key);
      const value = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start);
      this.bytesWritten += value.byteLength;
      puts.push(awaitedLater(redis.sendCommand(new PutPiece(key, value, lifetimeMs))));
    }
    await Promise.all(puts);
    return ref;
  }

  async get(ref: BlobRef): Promise<Uint8Array> {
    this.#refuseTooLarge(ref);
    try {
      return await this.#whole(ref);
    } catch (cause) {
      const isWrongType = cause instanceof Error && cause.message.startsWith('WRONGTYPE');
      const error = isWrongType ? otherBlob(this.#keyOf(ref), 'a string', cause.message) : cause;
      // A damaged blob is deleted, so that the owner of the bytes can put them again.
      if (error instanceof QianmoError) await this.#options.redis.unlink(...this.#keysOf(ref));
      throw error;
    }
  }

  async #whole(ref: BlobRef): Promise<Uint8Array> {
    const { redis, lifetimeMs } = this.#options;
    const pieces = this.#piecesOf(ref);
    const asked: Promise<Buffer | null>[] = [];
    const hash = createHash('sha256');
    let whole: Uint8Array | null = null;
    for (const [place, { key, start, end }] of pieces.entries()) {
      for (const next of pieces.slice(place + asked.length, place + PIECES_IN_FLIGHT_MAX))
        asked.push(awaitedLater(redis.getexBuffer(next.key, 'PX', lifetimeMs)));
      const piece = (await asked.shift()) ?? null;
      if (piece === null) throw new BlobMissingError(ref);
      this.bytesRead += piece.byteLength;
      // The digest is over the pieces one after another, whatever their lengths.
      if (piece.byteLength !== end - start)
        throw otherBlob(key, `${end - start} bytes`, `${piece.byteLength} bytes`);
      hash.update(piece);
      whole ??= pieces.length === 1 ? piece : unfilledBytes(ref.byteCount);
      if (pieces.length > 1) whole.set(piece, start);
    }
    assertDigest({ ...ref, sha256: hash.digest('hex') }, ref, this.#keyOf(ref));
    return whole ?? new Uint8Array(0);
  }

  /** Deletions of one turn of the event loop are one command: each command wakes the server. */
  async delete(ref: BlobRef): Promise<void> {
    if (this.#isTooLarge(ref)) return;
    for (const key of this.#keysOf(ref)) this.#unlinkKeys.add(key);
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
    if (this.#isTooLarge(ref)) return false;
    const { redis, lifetimeMs } = this.#options;
    const renewed = this.#keysOf(ref).map((key) => redis.pexpire(key, lifetimeMs));
    return (await Promise.all(renewed)).every((count) => count === 1);
  }

  #keyOf(ref: BlobRef): string {
    return `${this.#options.prefix}:blob:${ref.sha256}`;
  }

  #keysOf(ref: BlobRef): string[] {
    return this.#piecesOf(ref).map(({ key }) => key);
  }

  /** At least one. The first has the key of the blob. */
  #piecesOf(ref: BlobRef): BlobPiece[] {
    const count = Math.max(1, Math.ceil(ref.byteCount / REDIS_BLOB_PIECE_BYTE_COUNT));
    return Array.from({ length: count }, (_, index) => ({
      key: index === 0 ? this.#keyOf(ref) : `${this.#keyOf(ref)}:${index}`,
      start: index * REDIS_BLOB_PIECE_BYTE_COUNT,
      end: Math.min(ref.byteCount, (index + 1) * REDIS_BLOB_PIECE_BYTE_COUNT),
    }));
  }

  /** The size is what another process claims: the keys of such a blob may not fit into memory. */
  #isTooLarge(ref: BlobRef): boolean {
    return ref.byteCount > this.#options.blobByteCountMax;
  }

  #refuseTooLarge(ref: BlobRef): void {
    if (this.#isTooLarge(ref))
      throw tooLargeBlob(ref, this.#keyOf(ref), this.#options.blobByteCountMax);
  }
}

interface BlobPiece {
  readonly key: string;
  readonly start: number;
  readonly end: number;
}

/** Sets a piece with its lifetime. The client itself would first copy the value into new memory, behind the words of the command. */
class PutPiece extends Command {
  readonly #head: string;
  readonly #value: Buffer;
  readonly #tail: string;

  constructor(key: string, value: Buffer, lifetimeMs: number) {
    super('set', [key, value, 'PX', String(lifetimeMs)]);
    this.#head = `*5\r\n$3\r\nset\r\n${lengthOf(key)}${key}\r\n$${value.byteLength}\r\n`;
    this.#value = value;
    this.#tail = `\r\n$2\r\nPX\r\n${lengthOf(String(lifetimeMs))}${lifetimeMs}\r\n`;
  }

  /** Called when the command is sent. The client writes what it returns behind what it has written. */
  override toWritable(socket: Writable): string {
    socket.cork();
    process.nextTick(() => socket.uncork());
    socket.write(this.#head);
    socket.write(this.#value);
    return this.#tail;
  }
}

/** A promise that may fail before its turn comes, or without one. */
function awaitedLater<Reply>(reply: Reply | Promise<Reply>): Promise<Reply> {
  const promise = Promise.resolve(reply);
  promise.catch(() => undefined);
  return promise;
}

function otherBlob(where: string, expected: string, found: string): QianmoError {
  return errorOf('data', 'a blob does not match its reference', {
    ...{ where, expected, found },
    cure: 'the process that put or named the blob is damaged or lies: stop it',
  });
}

function lengthOf(word: string): string {
  return `$${Buffer.byteLength(word)}\r\n`;
}
