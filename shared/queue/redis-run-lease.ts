/**
 * The lease of a run on Redis, and the adding of jobs under it. Two keys per run: the epoch, which changes
 * only when the lease is taken, and its holder, which expires by the clock of the server.
 */

import { z } from 'zod';
import {
  LeaseHolderSchema,
  RunFencedError,
  type LeaseAnswer,
  type LeaseHolder,
} from '../storage/run-lease.js';
import type { RedisConnection } from './redis-connection.js';
import { RUN_LEASE_MS } from './timing.js';

/** Outlives every holder by far. After the loss of the key, time makes the next epoch larger. */
const EPOCH_LIFETIME_MS = 7 * 24 * 3_600_000;

/**
 * KEYS: epoch, holder. ARGV: start, holder as JSON, lease in ms, lifetime of the epoch in ms, the text of a
 * dead holder. Returns the epoch and nothing, or nothing and the text of the holder.
 */
const TAKE = `
local found = redis.call('GET', KEYS[2])
if found and found ~= ARGV[5] then
  if cjson.decode(found).start ~= ARGV[1] then return {'', found} end
  local epoch = redis.call('GET', KEYS[1])
  if epoch then return {epoch, ''} end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local epoch = string.format('%.0f', math.max(last + 1, now))
redis.call('SET', KEYS[1], epoch, 'PX', ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {epoch, ''}`;

/**
 * KEYS and ARGV: as above, with the epoch for the start. Returns 1 unless somebody has taken the lease. A
 * server that has lost its memory is told the epoch again.
 */
const RENEW = `
local epoch = redis.call('GET', KEYS[1])
if epoch and epoch ~= ARGV[1] then return 0 end
if not epoch or redis.call('PTTL', KEYS[1]) < ARGV[4] / 2 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1`;

/** KEYS: as above. ARGV: epoch. */
const RELEASE = `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[2]) end`;

const TakeReplySchema = z.tuple([z.string(), z.string()]);

export class RedisRunLease {
  readonly #redis: RedisConnection;
  readonly #prefix: string;
  readonly #where: string;
  #held: { readonly runId: string; readonly epoch: string } | null = null;

  constructor(redis: RedisConnection, prefix: string, where: string) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#where = where;
  }

  get isHeld(): boolean {
    return this.#held !== null;
  }

  async take(runId: string, holder: LeaseHolder, over: string | null): Promise<LeaseAnswer> {
    const { start } = holder;
    const args = [start, JSON.stringify(holder), RUN_LEASE_MS, EPOCH_LIFETIME_MS, over ?? ''];
    const reply = await this.#redis.eval(TAKE, 2, ...this.#keysOf(runId), ...args);
    const [epoch, found] = TakeReplySchema.parse(reply);
    if (epoch === '') {
      const other = LeaseHolderSchema.parse(JSON.parse(found));
      return { kind: 'held', holder: other, mark: found };
    }
    this.#held = { runId, epoch };
    return { kind: 'taken', epoch: Number(epoch) };
  }

  /** @throws RunFencedError if another coordinator has taken the lease. */
  async renew(holder: LeaseHolder): Promise<void> {
    const { runId, epoch } = this.#demand();
    const args = [epoch, JSON.stringify(holder), RUN_LEASE_MS, EPOCH_LIFETIME_MS];
    const reply = await this.#redis.eval(RENEW, 2, ...this.#keysOf(runId), ...args);
    if (reply !== 1) throw this.#fenced(runId);
  }

  /** Does nothing if the lease is lost, or was never taken. */
  async release(): Promise<void> {
    if (this.#held === null) return;
    const { runId, epoch } = this.#held;
    this.#held = null;
    await this.#redis.eval(RELEASE, 2, ...this.#keysOf(runId), epoch);
  }

  /**
   * Compares the epoch before jobs are added and after. A process may be suspended between the two, so jobs
   * that were added too late are removed again.
   *
   * @throws RunFencedError if another coordinator has taken the lease. Nothing stays added then.
   */
  async addUnder(add: () => Promise<unknown>, undo: () => Promise<unknown>): Promise<void> {
    const { runId } = this.#demand();
    if (!(await this.#isOwn())) throw this.#fenced(runId);
    await add();
    if (await this.#isOwn()) return;
    await undo();
    throw this.#fenced(runId);
  }

  /** A server that has lost its memory is told the epoch again at the next renewal. */
  async #isOwn(): Promise<boolean> {
    const { runId, epoch } = this.#demand();
    const [epochKey] = this.#keysOf(runId);
    const found = await this.#redis.get(epochKey);
    return found === null || found === epoch;
  }

  #demand(): { readonly runId: string; readonly epoch: string } {
    if (this.#held === null) throw new Error('the lease was not taken');
    return this.#held;
  }

  #keysOf(runId: string): [epoch: string, holder: string] {
    return [`${this.#prefix}:lease:${runId}:epoch`, `${this.#prefix}:lease:${runId}:holder`];
  }

  #fenced(runId: string): RunFencedError {
    return new RunFencedError(`run ${runId} at ${this.#where}`);
  }
}
