/**
 * Turns the errors of Redis and its clients into those of the queue. The only file that recognises
 * them by their words.
 */

import { QianmoError } from '../base/errors.js';
import { QueueRefusedError, QueueUnavailableError, type Refusal } from './queue-errors.js';

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

export const RIGHTS_CURE =
  'give the user the rights that infra/docs/machines.md lists under "A Redis user with few rights"';

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
  if (error instanceof QueueUnavailableError || error instanceof QueueRefusedError) return error;
  const causes = causesOf(error);
  const known = error instanceof QianmoError ? error.report : undefined;
  // A transaction that was discarded has the reason among the errors of its commands.
  for (const cause of causes) {
    const refusal = refusalOf(cause.message);
    if (refusal !== null) return refused(refusal, { where, cause, known });
  }
  const outage = causes.find(isOutage);
  if (outage !== undefined)
    return new QueueUnavailableError({
      what: 'Redis does not answer',
      where,
      cure: 'check that the Redis server is running and reachable, then try again',
      ...known,
      found: wordsOf(outage),
      cause: outage,
    });
  const reply = causes.find(({ name }) => name === 'ReplyError');
  return reply === undefined ? error : refused('other', { where, cause: reply, known });
}

/** Whether a new connection may reach a server that takes the command. */
export function isOfChangedRole({ message }: Error): boolean {
  return CHANGED_ROLE.includes(codeOf(message));
}

export function isForbidden({ message }: Error): boolean {
  return refusalOf(message) === 'permission';
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

function refused(
  refusal: Refusal,
  {
    where,
    cause,
    known,
  }: { where: string; cause: Error; known: QianmoError['report'] | undefined },
): QueueRefusedError {
  // A report about the environment knows more than the reply, as that a blob was put.
  const own = known?.kind === 'environment' ? known : undefined;
  const { what, cure } = REFUSED[refusal];
  return new QueueRefusedError(refusal, {
    what: own?.what ?? what,
    where: own?.where ?? where,
    found: cause.message,
    cure: own?.cure ?? cure,
    cause,
  });
}
