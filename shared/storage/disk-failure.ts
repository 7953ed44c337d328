/** Says in the reader's words why a disk refused: the part of `errno` that a user can cure. */

import { QianmoError } from '../errors.js';

const CURE_BY_CODE: Readonly<Record<string, { what: string; cure: string }>> = {
  ENOSPC: {
    what: 'the disk is full',
    cure: 'free some space or choose an output on another disk; what was complete stays valid',
  },
  EDQUOT: {
    what: 'the disk quota is used up',
    cure: 'free some space or choose an output on another disk; what was complete stays valid',
  },
  EACCES: {
    what: 'permission denied',
    cure: 'give this user read and write access to the folder, or choose another output',
  },
  EPERM: {
    what: 'permission denied',
    cure: 'give this user read and write access to the folder, or choose another output',
  },
  EROFS: {
    what: 'the disk is mounted read-only',
    cure: 'choose an output on a disk that can be written',
  },
  ENOTDIR: {
    what: 'a file is where a folder should be',
    cure: 'choose another output, or move the file out of the way',
  },
  EMFILE: {
    what: 'this process may not open more files',
    cure: 'raise the limit of open files (ulimit -n)',
  },
};

export function errorCodeOf(cause: unknown): string | null {
  if (!(cause instanceof Error) || !('code' in cause)) return null;
  return typeof cause.code === 'string' ? cause.code : null;
}

/** @param doing what could not be done, as in `writing`. */
export function diskFailure(cause: unknown, doing: string, path: string): QianmoError {
  if (cause instanceof QianmoError) return cause;
  const known = CURE_BY_CODE[errorCodeOf(cause) ?? ''];
  return new QianmoError({
    kind: 'environment',
    what: `${known?.what ?? 'the disk failed'} while ${doing}`,
    where: path,
    cure: known?.cure ?? 'see the reason above; the disk or its file system may be damaged',
    cause,
  });
}
