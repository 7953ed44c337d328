/**
 * The lease of a run on Redis, the adding of jobs under it, and the cancellation of its holder. The keys of a run: the
 * epoch, which changes only when the lease is taken, its holder, which expires by the clock of the server, a
 * cancellation, and how the last holder ended.
 */

import { z } from 'zod';
import { errorOf } from '../base/errors.js';
import {
  foundInRecord,
  LeaseHolderSchema,
  RunEndSchema,
  RunFencedError,
  type LeaseAnswer,
  type LeaseHolder,
  type RunEnd,
} from '../storage/lease.js';
import { CancellationSchema, type Cancellation, type QueueController } from './job-queue.js';
import type { RedisConnection } from './redis-connection.js';
import { RUN_END_KEPT_MS, RUN_LEASE_MS } from './timing.js';

/** Outlives every holder by far. After the loss of the epoch, time makes the next one larger. */
const RECORD_LIFETIME_MS = 7 * 24 * 3_600_000;

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
 * KEYS and ARGV: as above, with the epoch for the start, and the cancellation as third key. Returns 1 and its text
 * unless somebody has taken the lease later. A server that has lost its memory, or failed over to a replica with an
 * earlier epoch, is told the epoch again.
 */
const RENEW = `
local epoch = redis.call('GET', KEYS[1])
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return {0, ''} end
if epoch ~= ARGV[1] or redis.call('PTTL', KEYS[1]) < ARGV[4] / 2 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {1, redis.call('GET', KEYS[3]) or ''}`;

/** KEYS: epoch, holder, end. ARGV: epoch, the text of the end or none, its lifetime in ms. */
const RELEASE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
redis.call('DEL', KEYS[2])
if ARGV[2] ~= '' then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) end`;

const TakeReplySchema = z.tuple([z.string(), z.string()]);
const RenewReplySchema = z.tuple([z.int(), z.string()]);

interface LeaseKeys {
  readonly epoch: string;
  readonly holder: string;
  readonly cancel: string;
  readonly end: string;
}

function leaseKeysOf(prefix: string, runId: string): LeaseKeys {
  const of = (part: string): string => `${prefix}:lease:${runId}:${part}`;
  return { epoch: of('epoch'), holder: of('holder'), cancel: of('cancel'), end: of('end') };
}

export class RedisRunLease {
  readonly #redis: RedisConnection;
  readonly #prefix: string;
  readonly #where: string;
  #held: { readonly runId: string; readonly epoch: string; readonly start: string } | null = null;

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
    const args = [start, JSON.stringify(holder), RUN_LEASE_MS, RECORD_LIFETIME_MS, over ?? ''];
    const keys = this.#keysOf(runId);
    const reply = await this.#redis.eval(TAKE, 2, keys.epoch, keys.holder, ...args);
    const [epoch, found] = TakeReplySchema.parse(reply);
    if (epoch === '') {
      return { kind: 'held', holder: holderIn(found, runId, this.#where), mark: found };
    }
    this.#held = { runId, epoch, start };
    return { kind: 'taken', epoch: Number(epoch) };
  }

  /** @throws RunFencedError if another coordinator has taken the lease. */
  async renew(holder: LeaseHolder): Promise<Cancellation | null> {
    const { runId, epoch, start } = this.#demand();
    const args = [epoch, JSON.stringify(holder), RUN_LEASE_MS, RECORD_LIFETIME_MS];
    const keys = this.#keysOf(runId);
    const reply = await this.#redis.eval(RENEW, 3, keys.epoch, keys.holder, keys.cancel, ...args);
    const [isRenewed, text] = RenewReplySchema.parse(reply);
    if (isRenewed !== 1) throw this.#fenced(runId);
    const cancellation = cancellationIn(text);
    return cancellation?.start === start ? cancellation : null;
  }

  /** Does nothing if the lease is lost, or was never taken. */
  async release(end?: Omit<RunEnd, 'start'>): Promise<void> {
    if (this.#held === null) return;
    const { runId, epoch, start } = this.#held;
    this.#held = null;
    const keys = this.#keysOf(runId);
    const args = [
      epoch,
      end === undefined ? '' : JSON.stringify({ start, ...end }),
      RUN_END_KEPT_MS,
    ];
    await this.#redis.eval(RELEASE, 3, keys.epoch, keys.holder, keys.end, ...args);
  }

  /**
   * Compares the epoch after jobs were added: a process may be suspended between any check and the addition,
   * so only a later check proves that they were added in time. Jobs that were not are removed again.
   *
   * @throws RunFencedError if another coordinator has taken the lease. Nothing stays added then.
   */
  async addUnder(add: () => Promise<unknown>, undo: () => Promise<unknown>): Promise<void> {
    const { runId, epoch } = this.#demand();
    await add();
    const found = await this.#redis.get(this.#keysOf(runId).epoch);
    // A server that has lost its memory is told the epoch again at the next renewal.
    if (found === null || Number(found) <= Number(epoch)) return;
    await undo();
    throw this.#fenced(runId);
  }

  #demand(): { readonly runId: string; readonly epoch: string; readonly start: string } {
    if (this.#held === null) throw new Error('the lease was not taken');
    return this.#held;
  }

  #keysOf(runId: string): LeaseKeys {
    return leaseKeysOf(this.#prefix, runId);
  }

  #fenced(runId: string): RunFencedError {
    return new RunFencedError(`run ${runId} at ${this.#where}`);
  }
}

/** The part of a controller that cancels runs. */
export function redisRunController(
  redis: RedisConnection,
  prefix: string,
  where: string,
): Pick<QueueController, 'find' | 'endOf' | 'cancel'> {
  return {
    find: async (runId) => {
      const text = await redis.get(leaseKeysOf(prefix, runId).holder);
      return text === null ? null : holderIn(text, runId, where);
    },
    endOf: async (runId, start) => {
      const text = await redis.get(leaseKeysOf(prefix, runId).end);
      // One of another version says nothing.
      const end = text === null ? undefined : RunEndSchema.safeParse(JSON.parse(text)).data;
      return end?.start === start ? end : null;
    },
    cancel: async (runId, cancellation) => {
      const key = leaseKeysOf(prefix, runId).cancel;
      await redis.set(key, JSON.stringify(cancellation), 'PX', RECORD_LIFETIME_MS);
    },
  };
}

/** Null where there is none, or it is not as this version writes it. */
function cancellationIn(text: string): Cancellation | null {
  try {
    return CancellationSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** @throws QianmoError `environment` if the text is not a holder as this version writes it. */
function holderIn(text: string, runId: string, where: string): LeaseHolder {
  try {
    return LeaseHolderSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw errorOf('environment', `the record of the coordinator of run ${runId} cannot be read`, {
      where,
      found: foundInRecord(cause),
      cure: 'use the version of qianmo that wrote it',
    });
  }
}
