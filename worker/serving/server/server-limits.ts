/** Bounds of a ranking server that others than the server read. */

export const CONNECTIONS_MAX = 20_000;
/** Candidates of a request whose scores are explained: each costs two scores for each feature. */
export const EXPLAINED_DEFAULT = 20;
export const DEADLINE_MS_MAX = 60_000;
/** Requests under way when the server is told to stop have so long. */
export const DRAIN_MS_MAX = 15_000;
