/** Bounds of what a ranking server takes in. Each refusal names the bound that it rests on. */

/** Bytes of the body of a request. */
export const BODY_BYTE_COUNT_MAX = 8 * 2 ** 20;
/** Bytes of all bodies that are being received or wait. */
export const BODIES_BYTE_COUNT_MAX = 256 * 2 ** 20;
/** Requests whose bodies are being received. */
export const RECEIVED_REQUESTS_MAX = 1_024;
export const CANDIDATES_MAX = 5_000;
/** Columns of the context, and of the candidates. */
export const COLUMNS_MAX = 1_000;
export const LIST_LENGTH_MAX = 1_000;
export const TEXT_LENGTH_MAX = 10_000;
export const CONNECTIONS_MAX = 20_000;

/** Candidates of a request whose scores are explained: each costs two scores for each feature. */
export const EXPLAINED_MAX = 1_000;
export const EXPLAINED_DEFAULT = 20;

export const QUEUED_REQUESTS_MAX = 100_000;
export const QUEUED_REQUESTS_DEFAULT = 256;
export const DEADLINE_MS_MAX = 60_000;
export const DEADLINE_MS_DEFAULT = 1_000;
/** Files of bundles that are kept on this machine. */
export const CACHE_GIB_MAX = 1_048_576;
export const CACHE_GIB_DEFAULT = 64;
export const PROCESSES_MAX = 256;
/** Of requests that a canary answers. */
export const CANARY_SHARE_DEFAULT = 0.05;
export const POLL_SECONDS_MAX = 3_600;
export const POLL_SECONDS_DEFAULT = 5;

/** Pools of clients and proxies keep connections for a minute or less. */
export const KEEP_ALIVE_MS = 75_000;
export const HEADERS_TIMEOUT_MS = 5_000;
/** Headers and body. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Requests under way when the server is told to stop have so long. */
export const DRAIN_MS_MAX = 15_000;
