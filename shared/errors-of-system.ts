/** What the operating system's refusals mean to a user. Knows codes, not vendors. */

import { QianmoError, type FailureKind } from './errors.js';

interface Meaning {
  readonly kind: FailureKind;
  readonly found: string;
  readonly cure: string;
}

const MEANING_BY_CODE: Readonly<Record<string, Meaning>> = {
  ENOSPC: {
    kind: 'environment',
    found: 'no space is left on the disk',
    cure: 'free space there, or choose a folder on another disk; nothing half-written was kept',
  },
  EDQUOT: {
    kind: 'environment',
    found: 'the disk quota is used up',
    cure: 'free space there, or choose a folder on another disk; nothing half-written was kept',
  },
  EACCES: {
    kind: 'environment',
    found: 'permission denied',
    cure: 'give this user access to it, or choose another place',
  },
  EPERM: {
    kind: 'environment',
    found: 'operation not permitted',
    cure: 'give this user access to it, or choose another place',
  },
  EROFS: {
    kind: 'environment',
    found: 'the file system is read-only',
    cure: 'choose a folder that can be written to',
  },
  ENOENT: { kind: 'data', found: 'it does not exist', cure: 'check the path' },
  ENOTDIR: { kind: 'data', found: 'a part of the path is not a folder', cure: 'check the path' },
  EISDIR: { kind: 'data', found: 'it is a folder', cure: 'give the path of a file' },
  EMFILE: {
    kind: 'environment',
    found: 'too many files are open',
    cure: 'raise the limit (ulimit -n)',
  },
};

/** The code of a Node system error (`ENOSPC`), or null. */
export function systemCodeOf(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error)) return null;
  return typeof error.code === 'string' ? error.code : null;
}

/** A system error as a failure a user can act on; a QianmoError is returned as it is. */
export function systemFailure(cause: unknown, what: string, where: string): QianmoError {
  if (cause instanceof QianmoError) return cause;
  const code = systemCodeOf(cause);
  const meaning = code === null ? undefined : MEANING_BY_CODE[code];
  if (meaning !== undefined) return new QianmoError({ what, where, ...meaning, cause });
  return new QianmoError({
    kind: 'failed',
    what,
    where,
    found: cause instanceof Error ? cause.message : String(cause),
    cause,
  });
}
