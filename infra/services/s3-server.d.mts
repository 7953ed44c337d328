/** Types of s3-server.mjs, for the tests that need an S3-compatible server. */

export interface S3ServerProgram {
  /**
   * versitygw stores objects in dataDir; moto stores them in memory and does not check signatures.
   */
  readonly kind: 'versitygw' | 'moto';
  readonly command: string;
  /** PYTHONPATH of moto; empty for versitygw. */
  readonly modulePath: string;
}

/** Looks without installing anything: QIANMO_TEST_S3_SERVER, then the cache. */
export function findS3Server(): S3ServerProgram | null;

/**
 * Finds a server program or installs one (minutes, once); reports its progress through `announce`.
 */
export function obtainS3Server(
  announce?: (what: string) => void,
): Promise<
  | { readonly server: S3ServerProgram }
  | { readonly server: null; readonly problem: string; readonly cure: string[] }
>;

export interface S3Server {
  readonly kind: 'versitygw' | 'moto';
  /** `http://127.0.0.1:PORT`; use path-style addressing. */
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
  stop(): Promise<void>;
}

/**
 * Starts a server without buckets and resolves when it answers. It ends with this process. Throws
 * when no program is installed (see findS3Server) or it does not start.
 */
export function startS3Server(options: {
  readonly dataDir: string;
  readonly program?: S3ServerProgram;
}): Promise<S3Server>;
