/** Types of embedded-redis.mjs, for the TypeScript code and the tests that start a Redis server. */

export interface RedisServerProgram {
  readonly path: string;
  /** Such as `redis 7.0.15` or `valkey 9.1.2`. */
  readonly version: string;
  readonly origin: 'configured' | 'path' | 'cache';
}

/** Looks without obtaining anything: QIANMO_TEST_REDIS_SERVER, then PATH, then the cache. */
export function findRedisServer(): Promise<RedisServerProgram | null>;

/** Finds a server program or obtains one; says what is being done through `announce`. */
export function obtainRedisServer(
  announce?: (what: string) => void,
): Promise<
  | { readonly server: RedisServerProgram }
  | { readonly server: null; readonly problem: string; readonly cure: string[] }
>;

export interface EmbeddedRedisOptions {
  /** Made when missing. Holds the append-only file and redis.log; must not be in use by another. */
  readonly dataDir: string;
  /** A free loopback port is chosen when left out. */
  readonly port?: number;
  /** The server program; found or obtained when left out. */
  readonly serverPath?: string;
}

export interface EmbeddedRedis {
  /** `redis://127.0.0.1:PORT`; the same after a restart. */
  readonly url: string;
  readonly port: number;
  /** Of the server that runs now, or of the last one. */
  readonly pid: number;
  isRunning(): boolean;
  /** Ends it cleanly (SIGTERM). */
  stop(): Promise<void>;
  /** Ends it at once (SIGKILL), losing up to a second of writes. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data, stopping it cleanly first when it runs. */
  restart(): Promise<void>;
}

/**
 * Starts a server and resolves when it answers PING. It ends with this process, however that ends.
 * Throws when no server program can be had or it does not start, with the reason and its log line.
 */
export function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis>;
