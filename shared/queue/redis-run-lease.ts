/**
 * The lease of a run on Redis, the adding of jobs under it, and the orders that are given to its holder. Three keys
 * per run: the epoch, which changes only when the lease is taken, its holder, which expires by the clock of the
 * server, and the orders.
 */

import { z } from 'zod';
import { QianmoError, type FailureReport } from '../base/errors.js';
import {
  decodeOrders,
  encodeOrders,
  NO_ORDERS,
  UnreadableOrdersError,
  type ControlledRun,
  type RunController,
  type RunOrders,
} from './run-orders.js';
import {
  foundInRecord,
  LeaseHolderSchema,
  RunEndSchema,
  RunFencedError,
  type LeaseAnswer,
  type LeaseHolder,
} from '../storage/lease.js';
import type { ReleaseTerms } from './job-queue.js';
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
 * KEYS and ARGV: as above, with the epoch for the start, and the orders as third key. Returns 1 and the orders
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

/**
 * KEYS: epoch, end, then what ends with the lease. ARGV: epoch, the text of the end or none, its lifetime in ms.
 */
const RELEASE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
redis.call('DEL', unpack(KEYS, 3))
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end`;

/**
 * KEYS: holder, orders. ARGV: the earlier orders, the text of no orders, the orders, their lifetime in ms, 1 if there must
 * be a holder and 0 if there must be none. Returns 1 if the orders were replaced, 0 if they were not the earlier ones,
 * -1 without the holder, or with one.
 */
const REPLACE_ORDERS = `
local isHeld = redis.call('GET', KEYS[1]) and '1' or '0'
if isHeld ~= ARGV[5] then return -1 end
if (redis.call('GET', KEYS[2]) or ARGV[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return 1`;

const TakeReplySchema = z.tuple([z.string(), z.string()]);
const RenewReplySchema = z.tuple([z.int(), z.string()]);

interface LeaseKeys {
  readonly epoch: string;
  readonly holder: string;
  readonly orders: string;
  readonly end: string;
}

function leaseKeysOf(prefix: string, runId: string): LeaseKeys {
  const of = (part: string): string => `${prefix}:lease:${runId}:${part}`;
  return { epoch: of('epoch'), holder: of('holder'), orders: of('orders'), end: of('end') };
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

  /**
   * @throws RunFencedError if another coordinator has taken the lease; UnreadableOrdersError if the lease is renewed,
   *   and the orders are not as this version writes them.
   */
  async renew(holder: LeaseHolder): Promise<RunOrders> {
    const { runId, epoch } = this.#demand();
    const args = [epoch, JSON.stringify(holder), RUN_LEASE_MS, RECORD_LIFETIME_MS];
    const keys = this.#keysOf(runId);
    const reply = await this.#redis.eval(RENEW, 3, keys.epoch, keys.holder, keys.orders, ...args);
    const [isRenewed, orders] = RenewReplySchema.parse(reply);
    if (isRenewed !== 1) throw this.#fenced(runId);
    return ordersIn(orders, runId, this.#where);
  }

  /** Does nothing if the lease is lost, or was never taken. */
  async release(terms?: ReleaseTerms): Promise<void> {
    if (this.#held === null) return;
    const { runId, epoch, start } = this.#held;
    this.#held = null;
    const { epoch: epochKey, holder, orders, end: endKey } = this.#keysOf(runId);
    const ending = terms?.keepsOrders === true ? [holder] : [holder, orders];
    const end = terms?.end === undefined ? '' : JSON.stringify({ start, ...terms.end });
    const keys = [epochKey, endKey, ...ending];
    await this.#redis.eval(RELEASE, keys.length, ...keys, epoch, end, RUN_END_KEPT_MS);
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

  #demand(): { readonly runId: string; readonly epoch: string } {
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

export function redisRunController(
  redis: RedisConnection,
  prefix: string,
  where: string,
): Omit<RunController, 'close'> {
  const replaced = async (runId: string, change: readonly [string, RunOrders], isHeld: 0 | 1) => {
    const { holder, orders: key } = leaseKeysOf(prefix, runId);
    const [earlier, orders] = change;
    const args = [earlier, encodeOrders(NO_ORDERS), encodeOrders(orders), RECORD_LIFETIME_MS];
    return redis.eval(REPLACE_ORDERS, 2, holder, key, ...args, isHeld);
  };
  return {
    find: async (runId): Promise<ControlledRun | null> => {
      const keys = leaseKeysOf(prefix, runId);
      const [holder = null, orders = null] = await redis.mget(keys.holder, keys.orders);
      if (holder === null) return null;
      return { holder: holderIn(holder, runId, where), orders: ordersIn(orders, runId, where) };
    },
    endOf: async (runId, start) => {
      const text = await redis.get(leaseKeysOf(prefix, runId).end);
      // One of another version says nothing.
      const end = text === null ? undefined : RunEndSchema.safeParse(JSON.parse(text)).data;
      return end?.start === start ? end : null;
    },
    replace: async (runId, earlier, orders) =>
      (await replaced(runId, [encodeOrders(earlier), orders], 1)) === 1,
    withdraw: async (runId, change) => {
      const { holder: holderKey, orders: ordersKey } = leaseKeysOf(prefix, runId);
      for (;;) {
        const [holder = null, found = null] = await redis.mget(holderKey, ordersKey);
        if (holder !== null) return false;
        if (found === null) return true;
        const orders = change(ordersIn(found, runId, where));
        const reply = await replaced(runId, [found, orders], 0);
        if (reply !== 0) return reply === 1;
      }
    },
  };
}

/** @throws QianmoError `environment` if the text is not a holder as this version writes it. */
function holderIn(text: string, runId: string, where: string): LeaseHolder {
  try {
    return LeaseHolderSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new QianmoError(unreadable('the record of the coordinator', runId, where, cause));
  }
}

/** @throws UnreadableOrdersError if it is not orders as this version writes them. */
function ordersIn(text: string | null, runId: string, where: string): RunOrders {
  if (text === null || text === '') return NO_ORDERS;
  try {
    return decodeOrders(text);
  } catch (cause) {
    throw new UnreadableOrdersError(unreadable('the orders', runId, where, cause));
  }
}

function unreadable(record: string, runId: string, where: string, cause: unknown): FailureReport {
  return {
    kind: 'environment',
    what: `${record} of run ${runId} cannot be read`,
    where,
    found: foundInRecord(cause),
    cure: 'use the version of qianmo that wrote it',
  };
}
