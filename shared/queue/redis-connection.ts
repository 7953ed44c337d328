/**
 * Connections to Redis, with the options each use needs, and the check that the server fits.
 * Every connection has an `error` listener, so a lost server is never an uncaught exception.
 */

import { Redis, type RedisOptions } from 'ioredis';
import { type FailureReport, QianmoError, errorOf } from '../base/errors.js';
import { redactedAddress } from '../base/redacted-address.js';
import { isLoopbackHost } from '../network/addresses.js';
import { QueueRefusedError, QueueUnavailableError } from './queue-errors.js';
import { ANSWER_TIMEOUT_MS } from './timing.js';
import type { TlsFiles } from '../storage/tls-files.js';

/**
 * - `producer` fails at once while Redis is away; the caller decides how long to retry.
 * - the others wait for Redis to come back, however long.
 */
export type RedisRole = 'producer' | 'worker' | 'checks' | 'wake-ups';

type Refusal = QueueRefusedError['refusal'];

/** The type for code that passes a connection on without using the client library. */
export type RedisConnection = Redis;

interface ConnectRedisOptions {
  readonly url: string;
  readonly role: RedisRole;
  readonly name?: string;
  readonly connectTimeoutMs?: number;
  /** For addresses at `rediss://`; the system's authorities and no certificate of one's own if absent. */
  readonly tls?: TlsFiles | null;
  /** Called with every lost or refused connection after the first success. */
  readonly onError?: (error: Error) => void;
}

interface RedisFacts {
  /** `redis 7.0.15`, `valkey 9.1.2` */
  readonly version: string;
  readonly maxmemoryPolicy: string;
  readonly aof: boolean;
}

const CONNECT_TIMEOUT_MS = 5_000;
const RECONNECT_DELAY_MS_MAX = 2_000;
const RECONNECT_DELAY_MS_STEP = 50;
const LOADING_POLL_MS = 50;

const REDIS_ADDRESS = /^rediss?:\/\/[^\s]+$/;
/** A password with a slash: a part of it would be taken for the host, and shown in errors. */
const PASSWORD_IN_PATH = /^rediss?:\/\/[^/?#]*[/?#].*@/;

// The type is inferred: ioredis' own option type does not fit its constructor under
// exactOptionalPropertyTypes.
function optionsOf({ url, role, name, tls }: ConnectRedisOptions, connectTimeoutMs: number) {
  const waits = role !== 'producer';
  return {
    lazyConnect: true,
    connectTimeout: connectTimeoutMs,
    keepAlive: 10_000,
    // Asks for INFO, so it is switched on when the user may do that.
    enableReadyCheck: false,
    // After a failover the address leads to another server, or will do so soon.
    reconnectOnError: isOfChangedRole,
    // 0 rejects a command in flight as soon as its connection is lost. With 1 and no resending,
    // ioredis forgets it: its promise never settles.
    maxRetriesPerRequest: waits ? null : 0,
    enableOfflineQueue: waits,
    autoResendUnfulfilledCommands: waits,
    // Replaces a connection that was cut silently, of every role. BullMQ's copies have the same options.
    socketTimeout: ANSWER_TIMEOUT_MS,
    retryStrategy: (attempts: number) =>
      Math.min(attempts * RECONNECT_DELAY_MS_STEP, RECONNECT_DELAY_MS_MAX),
    ...(name === undefined ? {} : { connectionName: name }),
    ...(tls && url.startsWith('rediss:') ? { tls } : {}),
  } satisfies RedisOptions;
}

/**
 * Connects and resolves when the server answers. The caller ends the connection (`quit` or
 * `disconnect`).
 *
 * @throws QianmoError `usage` when the address is not a Redis address, `environment` when the
 *   server is down, refuses the password or is not Redis.
 */
export async function connectRedis(options: ConnectRedisOptions): Promise<Redis> {
  assertAddress(options);
  const connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
  const redis = clientOf(options, connectTimeoutMs);
  let firstError: Error | undefined;
  const keepFirst = (error: Error): void => {
    firstError ??= error;
  };
  redis.on('error', keepFirst);
  try {
    await answerWithin(redis, connectTimeoutMs);
    redis.options.enableReadyCheck = (await infoOf(redis)) !== null;
  } catch (error) {
    redis.disconnect();
    throw connectFailure(options.url, firstError ?? error);
  }
  // BullMQ duplicates a worker's connection to wait for jobs. Of a lazy one it makes a single attempt,
  // and the worker would never see a job if that failed.
  if (options.role === 'worker') redis.options.lazyConnect = false;
  redis.on('error', (error: Error) => options.onError?.(error));
  redis.off('error', keepFirst);
  return redis;
}

function clientOf(options: ConnectRedisOptions, connectTimeoutMs: number): Redis {
  try {
    return new Redis(options.url, optionsOf(options, connectTimeoutMs));
  } catch {
    // The error holds the address with its password.
    throw notAnAddress(options.url);
  }
}

/** The connect timeout of ioredis does not notice a server that accepts and stays silent. */
function answerWithin(redis: Redis, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    redis
      .connect()
      .then(() => loaded(redis))
      .then(() => resolve(), reject)
      .finally(() => clearTimeout(timer));
  });
}

async function loaded(redis: Redis): Promise<void> {
  for (;;) {
    try {
      await redis.ping();
      return;
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('LOADING')) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, LOADING_POLL_MS));
  }
}

/** Returns null when the user may not ask. */
async function infoOf(redis: Redis): Promise<string | null> {
  try {
    return await redis.info();
  } catch (error) {
    if (error instanceof Error && refusalOf(error.message) === 'permission') return null;
    throw error;
  }
}

/** Whether others cannot listen to the connection. */
function isGuarded(url: string): boolean {
  if (url.startsWith('rediss:') || !URL.canParse(url)) return true;
  return isLoopbackHost(new URL(url).hostname);
}

/** @throws QianmoError `usage` for an address that cannot be used. */
function assertAddress({ url, tls }: Pick<ConnectRedisOptions, 'url' | 'tls'>): void {
  if (!REDIS_ADDRESS.test(url)) throw notAnAddress(url);
  if (PASSWORD_IN_PATH.test(url))
    throw unusable(url, {
      what: 'the password in the address of Redis has characters that separate its parts',
      expected: 'percent-encoding: %2F for /, %3F for ?, %23 for #, %40 for @',
      cure: 'encode the password in --redis or queue.redisUrl',
    });
  if (tls && !isGuarded(url))
    throw unusable(url, {
      what: 'certificates are given for a connection that is not encrypted',
      expected: 'rediss://HOST:PORT',
      cure: 'write rediss:// in the address, or unset QIANMO_REDIS_CA_FILE and QIANMO_REDIS_CERTIFICATE_FILE',
    });
}

function notAnAddress(url: string): QianmoError {
  return unusable(url, {
    what: 'this is not the address of a Redis server',
    expected: 'redis://HOST:PORT, or rediss://HOST:PORT for TLS',
    cure: 'correct --redis or queue.redisUrl',
  });
}

function unusable(
  url: string,
  report: Pick<FailureReport, 'what' | 'expected' | 'cure'>,
): QianmoError {
  return new QianmoError({ kind: 'usage', where: redactedAddress(url), ...report });
}

const RIGHTS_CURE =
  'give the user the rights that infra/docs/machines.md lists under "A Redis user with few rights"';

/** The failures of a first connection that their words tell, most certain first. */
const CONNECT_FAILURES: readonly (readonly [words: RegExp, what: string, cure: string])[] = [
  [/^NOPERM/, 'Redis does not allow its user a command', RIGHTS_CURE],
  [
    /WRONGPASS|NOAUTH|invalid (username-)?password|without any password/i,
    'Redis refuses the user or password',
    'put the correct user and password into the address: redis://USER:PASSWORD@HOST:PORT',
  ],
  [
    /self.signed certificate|unable to (get|verify)|certificate has expired|altnames/i,
    'the certificate of Redis is not one to be trusted',
    'name the certificate of its authority in QIANMO_REDIS_CA_FILE, and the host that it is made out to in the address',
  ],
  [
    /alert certificate required|alert bad certificate|alert unknown ca|alert decrypt error|alert number (42|48|51|116)/i,
    'Redis does not trust the certificate of this machine, or misses it',
    'name a certificate that its authority has signed in QIANMO_REDIS_CERTIFICATE_FILE, and its key in QIANMO_REDIS_KEY_FILE',
  ],
  [
    /RESP type|protocol error/i,
    'the server at this address is not Redis',
    'give the address of a Redis server: redis://HOST:PORT (rediss:// for TLS)',
  ],
  [
    /^/,
    'Redis does not answer',
    'start the server (redis-server --appendonly yes), or correct --redis or queue.redisUrl',
  ],
];

function connectFailure(url: string, cause: unknown): QianmoError {
  const found = cause instanceof Error ? cause.message : String(cause);
  const [, what = '', cure = ''] = CONNECT_FAILURES.find(([words]) => words.test(found)) ?? [];
  return errorOf('environment', what, { ...{ where: redactedAddress(url), found, cure, cause } });
}

/**
 * Reads the facts about the server that matter here. Returns null when the user may not ask for them.
 *
 * @throws QianmoError `environment` when the server may evict keys: it would throw away jobs.
 */
export async function checkRedis(redis: Redis): Promise<RedisFacts | null> {
  const info = await infoOf(redis);
  if (info === null) return null;
  const valueOf = (name: string): string | undefined =>
    new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const valkeyVersion = valueOf('valkey_version');
  const facts: RedisFacts = {
    version:
      valkeyVersion === undefined
        ? `redis ${valueOf('redis_version') ?? 'of unknown version'}`
        : `valkey ${valkeyVersion}`,
    maxmemoryPolicy: valueOf('maxmemory_policy') ?? 'noeviction',
    aof: valueOf('aof_enabled') === '1',
  };
  if (facts.maxmemoryPolicy === 'noeviction') return facts;
  throw errorOf('environment', 'Redis may evict keys, which would lose jobs without a trace', {
    where: `${redis.options.host ?? 'localhost'}:${redis.options.port ?? 6379}`,
    expected: 'maxmemory-policy noeviction',
    found: `maxmemory-policy ${facts.maxmemoryPolicy}`,
    cure: 'redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf',
  });
}

/** Replies of a server whose role changed: a new connection may reach the one that has the data. */
const CHANGED_ROLE = ['READONLY', 'MOVED', 'ASK', 'MASTERDOWN', 'CLUSTERDOWN', 'UNBLOCKED'];
/** Replies of a server that will answer later. */
const ANSWERS_LATER = ['LOADING', 'TRYAGAIN', 'NOREPLICAS', 'BUSY'];
const LOST_CONNECTION =
  /ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|Connection is closed|isn't writeable|max retries per request|Socket closed|Socket timeout|Command aborted/i;

const REFUSAL_BY_CODE: Readonly<Record<string, Refusal>> = {
  MISCONF: 'disk',
  OOM: 'memory',
  NOPERM: 'permission',
  NOAUTH: 'permission',
  WRONGPASS: 'permission',
};
/** The reply when a script of BullMQ runs a command that its user may not run. */
const FORBIDDEN_IN_SCRIPT = /^ERR ACL failure in script/;

/** Redis 6 puts the code of a command that failed in a script behind words about the script. */
const CODE = /^(?:ERR Error running script .*?: -)?([A-Z]{3,})\b/;

const CAUSE_DEPTH_MAX = 5;

/** Makes a call whose errors are those of the queue. */
export type QueueCall = <Answer>(ask: () => Promise<Answer>) => Promise<Answer>;

/** Attempts at a call while somebody removes the scripts of the server, over and over. */
const SCRIPT_ATTEMPTS_MAX = 10;

/** @param where the address of the server, without its password. */
export function queueCallsAt(where: string): QueueCall {
  return async (ask) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await ask();
      } catch (error) {
        // The client sends the script itself the next time.
        if (attempt < SCRIPT_ATTEMPTS_MAX && lacksScript(error)) continue;
        throw queueErrorOf(error, where);
      }
    }
  };
}

function lacksScript(error: unknown): boolean {
  return causesOf(error).some(({ message }) => codeOf(message) === 'NOSCRIPT');
}

/**
 * Returns a `QueueUnavailableError` for an outage, and a `QueueRefusedError` when the server answered
 * with a refusal. Every other error is returned as it is.
 */
export function queueErrorOf(error: unknown, where: string): unknown {
  if (error instanceof QianmoError) return error;
  const causes = causesOf(error);
  // A transaction that was discarded has the reason among the errors of its commands.
  for (const cause of causes) {
    const refusal = refusalOf(cause.message);
    if (refusal !== null) return refused(refusal, where, cause);
  }
  const outage = causes.find(isOutage);
  if (outage !== undefined)
    return new QueueUnavailableError({
      what: 'Redis does not answer',
      where,
      cure: 'check that the Redis server is running and reachable, then try again',
      found: wordsOf(outage),
      cause: outage,
    });
  const reply = causes.find(({ name }) => name === 'ReplyError');
  return reply === undefined ? error : refused('other', where, reply);
}

/** Whether a new connection may reach a server that takes the command. */
export function isOfChangedRole({ message }: Error): boolean {
  return CHANGED_ROLE.includes(codeOf(message));
}

/**
 * The error, the errors of the commands of a transaction, and what caused it. Only one level of a
 * transaction is read, because after a lost connection ioredis lists an error among its own.
 */
function causesOf(error: unknown): Error[] {
  const causes: Error[] = [];
  let cause = error;
  for (let depth = 0; cause instanceof Error && depth < CAUSE_DEPTH_MAX; depth += 1) {
    causes.push(cause);
    const previous: unknown = 'previousErrors' in cause ? cause.previousErrors : [];
    if (Array.isArray(previous))
      causes.push(...previous.filter((one): one is Error => one instanceof Error));
    cause = cause.cause;
  }
  return causes;
}

function codeOf(message: string): string {
  return CODE.exec(message)?.[1] ?? '';
}

function refusalOf(message: string): Refusal | null {
  if (FORBIDDEN_IN_SCRIPT.test(message)) return 'permission';
  return REFUSAL_BY_CODE[codeOf(message)] ?? null;
}

function isOutage(error: Error): boolean {
  const code = codeOf(error.message);
  return (
    CHANGED_ROLE.includes(code) ||
    ANSWERS_LATER.includes(code) ||
    LOST_CONNECTION.test(wordsOf(error))
  );
}

/** The errors of several addresses of one host have a code and no message. */
function wordsOf(error: Error): string {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return error.message.includes(code) ? error.message || code : `${error.message} ${code}`.trim();
}

const REFUSED: Readonly<Record<Refusal, { readonly what: string; readonly cure: string }>> = {
  disk: {
    what: 'Redis refuses to write, because writing to its disk fails',
    cure: 'free the disk that Redis writes to (its log names the file)',
  },
  memory: {
    what: 'Redis has no memory left',
    cure: 'raise its maxmemory, or lower training.tasksPerOuterStep',
  },
  permission: {
    what: 'Redis does not allow its user a command',
    cure: RIGHTS_CURE,
  },
  other: { what: 'Redis refused a command', cure: 'see the log of Redis' },
};

function refused(refusal: Refusal, where: string, cause: Error): QueueRefusedError {
  return new QueueRefusedError(refusal, {
    ...REFUSED[refusal],
    where,
    found: cause.message,
    cause,
  });
}
