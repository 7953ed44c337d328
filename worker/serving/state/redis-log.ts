/**
 * A shared log in a stream of Redis. A line is acknowledged when the append-only file of Redis is on disk and this process has
 * applied it. After any failure, the state is made again from what Redis has, while the one before is read on. Under the
 * name:
 *
 *   :log               stream of lines with their times; its ids are 0-1, 0-2 and so on
 *   :snapshot          the id of the last line that the snapshot has
 *   :snapshot:ID       list of the lines of that snapshot
 *
 * One server at a time replaces the lines of a long log by a snapshot. Lines after the snapshot before stay, for servers that are
 * slower.
 */

import { z } from 'zod';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { redactedAddress } from '../../../shared/base/redacted-address.js';
import { connectRedis, type RedisConnection } from '../../../shared/queue/redis-connection.js';
import type { TlsFiles } from '../../../shared/storage/tls-files.js';
import { GroupedWrites } from './grouped-writes.js';
import { LOG_BYTE_COUNT_MIN, type LogState, type SharedLog } from './shared-log.js';

/** Redis syncs its file every second, or with each write. */
const SYNC_MS_MAX = 5_000;
/** A line that was written and does not come back, as from a Redis that hangs. */
const APPLIED_MS_MAX = 5_000;
const LINES_MAX = 500;
const BLOCK_MS = 1_000;
const RETRY_MS = 200;
/** The holder of this lock makes a snapshot. */
const LOCK_MS = 120_000;
const FIRST_ID = '0-0';

interface RedisLogOptions<State> {
  readonly url: string;
  /** Servers of one name share their log. */
  readonly name: string;
  readonly clock: Clock;
  readonly makeState: () => State;
  readonly tls?: TlsFiles | null;
  readonly byteCountMin?: number;
}

interface Line {
  readonly tag: string;
  readonly text: string;
}

export class RedisLog<State extends LogState<Result>, Result> implements SharedLog<State, Result> {
  readonly #options: RedisLogOptions<State>;
  readonly #writing: RedisConnection;
  readonly #reading: RedisConnection;
  readonly #writes = new GroupedWrites<Line>((lines) => this.#write(lines));
  /** Lines of this process that have not come back, by their tags. */
  readonly #own = new Map<string, (result: Result) => void>();
  readonly #closing = new AbortController();
  #loaded: Loaded<State>;
  /** How far the clock of Redis is ahead of that of this machine. */
  #aheadMs = 0;
  #following: Promise<void> = Promise.resolve();

  private constructor(
    options: RedisLogOptions<State>,
    writing: RedisConnection,
    reading: RedisConnection,
  ) {
    this.#options = options;
    this.#writing = writing;
    this.#reading = reading;
    this.#loaded = {
      state: options.makeState(),
      lastId: FIRST_ID,
      byteCount: 0,
      snapshotByteCount: 0,
    };
  }

  /** @throws QianmoError `environment` if Redis does not answer or keeps no append-only file. */
  static async open<State extends LogState<Result>, Result>(
    options: RedisLogOptions<State>,
  ): Promise<RedisLog<State, Result>> {
    const { url, name, tls = null } = options;
    const connect = (): Promise<RedisConnection> =>
      connectRedis({ url, role: 'producer', name: `qianmo-${name}`, tls });
    const writing = await connect();
    // A connection that waits for the disk, or for lines, answers nothing else.
    const reading = await connect().catch((error: unknown) => {
      writing.disconnect();
      throw error;
    });
    const log = new RedisLog<State, Result>(options, writing, reading);
    try {
      await writing.call('WAITAOF', '1', '0', '1');
      await log.#load();
    } catch (cause) {
      await log.close();
      throw failureOf(cause, url);
    }
    log.#following = log.#follow();
    return log;
  }

  get state(): State {
    return this.#loaded.state;
  }

  append(text: string): Promise<Result> {
    const { clock, url } = this.#options;
    const tag = freshNonce();
    const late = new AbortController();
    const applied = new Promise<Result>((resolve) => this.#own.set(tag, resolve));
    const written = this.#writes.add({ tag, text }, text.length);
    const inTime = clock.sleep(SYNC_MS_MAX + APPLIED_MS_MAX, late.signal).then(() => {
      if (!late.signal.aborted) throw failureOf('no answer in time', url);
    });
    const done = Promise.all([applied, written]).then(([result]) => result);
    return Promise.race([done, inTime.then(() => done)]).finally(() => {
      late.abort();
      this.#own.delete(tag);
    });
  }

  nowMs(): number {
    return this.#options.clock.epochMs() + this.#aheadMs;
  }

  async close(): Promise<void> {
    await this.#writes.settled();
    this.#closing.abort();
    this.#writing.disconnect();
    this.#reading.disconnect();
    await this.#following;
  }

  #key(suffix: string): string {
    // With braces, all keys of a cluster are on one of its servers.
    return `qianmo:{${this.#options.name}}:${suffix}`;
  }

  async #write(lines: readonly Line[]): Promise<void> {
    const { url } = this.#options;
    const epochMs = this.nowMs();
    const pipeline = this.#writing.pipeline();
    for (const { tag, text } of lines)
      pipeline.xadd(this.#key('log'), '0-*', 'tag', tag, 'epochMs', epochMs, 'text', text);
    // On another connection, WAITAOF would wait for nothing.
    pipeline.call('WAITAOF', '1', '0', String(SYNC_MS_MAX));
    const replies = await pipeline.exec().catch((cause: unknown) => {
      throw failureOf(cause, url);
    });
    for (const [error] of replies ?? []) if (error !== null) throw failureOf(error, url);
    const [syncedCount] = z.tuple([z.number(), z.number()]).parse(replies?.at(-1)?.[1]);
    if (syncedCount < 1) throw failureOf(`not on disk within ${SYNC_MS_MAX} ms`, url);
  }

  /** Makes the state from the last snapshot; the lines after it are read next. */
  async #load(): Promise<void> {
    const state = this.#options.makeState();
    const lastId = (await this.#reading.get(this.#key('snapshot'))) ?? FIRST_ID;
    let snapshotByteCount = 0;
    for (let first = 0; ; first += LINES_MAX) {
      const end = first + LINES_MAX - 1;
      const lines = await this.#reading.lrange(this.#key(`snapshot:${lastId}`), first, end);
      for (const text of lines) {
        state.apply(text, 0);
        snapshotByteCount += text.length;
      }
      if (lines.length < LINES_MAX) break;
    }
    // Another server may have replaced the snapshot meanwhile.
    if (((await this.#reading.get(this.#key('snapshot'))) ?? FIRST_ID) !== lastId)
      return this.#load();
    const [seconds = NaN, microseconds = NaN] = (await this.#reading.time()).map(Number);
    this.#aheadMs = seconds * 1_000 + microseconds / 1_000 - this.#options.clock.epochMs();
    const loaded = { state, lastId, byteCount: 0, snapshotByteCount };
    while (await this.#readInto(loaded, null));
    this.#loaded = loaded;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    for (;;)
      try {
        await this.#readInto(this.#loaded, BLOCK_MS);
        await this.#replaceIfLong();
      } catch {
        await this.#options.clock.sleep(RETRY_MS, signal);
        if (signal.aborted) return;
        // Applied lines may be lost in Redis.
        await this.#load().catch(() => undefined);
      }
  }

  /**
   * Applies the next lines, and returns whether there were any.
   *
   * @param blockMs how long to wait for one; null for not at all.
   */
  async #readInto(loaded: Loaded<State>, blockMs: number | null): Promise<boolean> {
    const key = this.#key('log');
    const at = ['STREAMS', key, loaded.lastId] as const;
    const found =
      blockMs === null
        ? await this.#reading.xread('COUNT', LINES_MAX, ...at)
        : await this.#reading.xread('COUNT', LINES_MAX, 'BLOCK', blockMs, ...at);
    const entries = found?.[0]?.[1] ?? [];
    if (entries.length === 0) return false;
    for (const [id, [, tag = '', , time = '', , text = '']] of entries) {
      if (numberOf(id) !== numberOf(loaded.lastId) + 1)
        throw new Error('lines were removed before they were read');
      const result = loaded.state.apply(text, Number(time));
      loaded.lastId = id;
      loaded.byteCount += text.length;
      this.#own.get(tag)?.(result);
    }
    return true;
  }

  async #replaceIfLong(): Promise<void> {
    const { byteCountMin = LOG_BYTE_COUNT_MIN } = this.#options;
    const loaded = this.#loaded;
    if (loaded.byteCount < Math.max(byteCountMin, 2 * loaded.snapshotByteCount)) return;
    const redis = this.#reading;
    const pointer = this.#key('snapshot');
    const before = await redis.get(pointer);
    loaded.byteCount = 0;
    const lock = this.#key('snapshot:lock');
    const isFirst = await redis.set(lock, loaded.lastId, 'PX', LOCK_MS, 'NX');
    if (isFirst === null || numberOf(loaded.lastId) <= numberOf(before ?? FIRST_ID)) return;
    const list = this.#key(`snapshot:${loaded.lastId}`);
    await redis.del(list);
    loaded.snapshotByteCount = 0;
    for (const text of loaded.state.snapshot()) {
      await redis.rpush(list, text);
      loaded.snapshotByteCount += text.length;
    }
    const change = redis.multi().set(pointer, loaded.lastId);
    if (before !== null)
      change.del(this.#key(`snapshot:${before}`)).xtrim(this.#key('log'), 'MINID', before);
    await change.exec();
  }
}

/** A state, and how far in the log it is. */
interface Loaded<State> {
  readonly state: State;
  lastId: string;
  /** Bytes of the lines since the last snapshot. */
  byteCount: number;
  snapshotByteCount: number;
}

function numberOf(id: string): number {
  return Number(id.split('-')[1]);
}

function failureOf(cause: unknown, url: string): QianmoError {
  if (cause instanceof QianmoError) return cause;
  const found = cause instanceof Error ? cause.message : String(cause);
  const isWithoutFile = /appendonly|unknown command/i.test(found);
  return new QianmoError({
    ...{ kind: 'environment', where: redactedAddress(url), found, cause },
    what: isWithoutFile
      ? 'Redis cannot say when its data are on disk'
      : 'Redis does not store the evidence',
    expected: 'Redis 7.2 or Valkey, with appendonly yes',
    cure: isWithoutFile
      ? 'switch its append-only file on, or keep the state in a folder'
      : 'send the events again when Redis is back',
  });
}
