/**
 * Turns the errors of Redis and its clients into those of the queue. The only file that recognises
 * them by their words.
 */

import { QianmoError } from '../base/errors.js';
import { QueueUnavailableError } from './queue-errors.js';

/** Replies of a server that will answer later: it loads its data or fails over. */
const OUTAGE_REPLIES = /^(LOADING|READONLY|TRYAGAIN|MASTERDOWN|CLUSTERDOWN|UNBLOCKED)\b/;
const OUTAGE_MESSAGES =
  /ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|Connection is closed|isn't writeable|max retries per request|Socket closed|Command timed out/i;

/** Makes a call whose errors are those of the queue. */
export type QueueCall = <Answer>(ask: () => Promise<Answer>) => Promise<Answer>;

/** @param where the address of the server, without its password. */
export function queueCallsAt(where: string): QueueCall {
  return async (ask) => {
    try {
      return await ask();
    } catch (error) {
      throw queueErrorOf(error, where);
    }
  };
}

/**
 * Returns a `QueueUnavailableError` for an outage, and a QianmoError of kind `environment` when the
 * server answered with a refusal. Every other error is returned as it is.
 */
export function queueErrorOf(error: unknown, where: string): unknown {
  const root = rootOf(error);
  if (!(root instanceof Error)) return error;
  const known = error instanceof QianmoError ? error : null;
  if (isOutage(root))
    return new QueueUnavailableError({
      what: 'Redis does not answer',
      where,
      cure: 'check that the Redis server is running and reachable, then try again',
      ...known?.report,
      found: root.message || codeOf(root),
      cause: root,
    });
  return isRefusal(root) && known?.kind !== 'environment' ? refused(where, root) : error;
}

function rootOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? rootOf(error.cause) : error;
}

function isOutage(error: Error): boolean {
  if (OUTAGE_REPLIES.test(error.message) || OUTAGE_MESSAGES.test(error.message)) return true;
  return OUTAGE_MESSAGES.test(codeOf(error));
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Whether Redis itself answered with the error: no memory, no disk, or no permission. */
function isRefusal(error: Error): boolean {
  return error.name === 'ReplyError';
}

function refused(where: string, cause: Error): QianmoError {
  const memory = 'raise its maxmemory, or lower training.tasksPerOuterStep';
  const disk = 'free the disk that Redis writes to';
  const other = 'see its log, and what its user may do';
  const isOf = (code: string): boolean => cause.message.startsWith(code);
  return new QianmoError({
    kind: 'environment',
    what: 'Redis refused a command',
    where,
    found: cause.message,
    cure: `${isOf('OOM') ? memory : isOf('MISCONF') ? disk : other}; then continue with --resume`,
    cause,
  });
}
