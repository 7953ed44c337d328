/** Types of embedded-redis.mjs, for the TypeScript code and the tests that start a Redis server. */

export interface RedisServerProgram {
  readonly path: string;
  /** For example `redis 7.0.15` or `valkey 9.1.2`. */
  readonly version: string;
  readonly origin: 'configured' | 'path' | 'cache';
}

/** Looks without installing anything: QIANMO_TEST_REDIS_SERVER, then PATH, then the cache. */
export function findRedisServer(): Promise<RedisServerProgram | null>;

/** Finds a server program or installs one; reports its progress through `announce`. */
export function obtainRedisServer(
  announce?: (what: string) => void,
): Promise<
  | { readonly server: RedisServerProgram }
  | { readonly server: null; readonly problem: string; readonly cure: string[] }
>;

export interface EmbeddedRedisOptions {
  /**
   * Created when missing. Holds redis.conf, the append-only file and redis.log; must not be in use by
   * another server.
   */
  readonly dataDir: string;
  /** A free loopback port is chosen by default. */
  readonly port?: number;
  /** The server program; found or installed by default. */
  readonly serverPath?: string;
  /** Empty for none; a random one by default. */
  readonly password?: string;
  /** Whether a restart finds the data again; true by default. */
  readonly isDurable?: boolean;
}

export interface EmbeddedRedis {
  /** `redis://:PASSWORD@127.0.0.1:PORT`; the same after a restart. */
  readonly url: string;
  readonly port: number;
  /** The process id of the running server, or of the last one. */
  readonly pid: number;
  isRunning(): boolean;
  /** Ends it cleanly (SIGTERM). */
  stop(): Promise<void>;
  /** Kills it (SIGKILL), which can lose up to a second of writes. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data, after a clean stop if it is running. */
  restart(): Promise<void>;
}

/**
 * Starts a server and resolves when it answers PING. It ends with this process, however that ends.
 * Throws, with the reason and its log line, when no server program is available or it does not
 * start.
 */
export function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis>;
