/** What the operating system refused, as a report a user can act on. */

import { QianmoError } from './errors.js';

const REPORTS: Readonly<Record<string, { what: string; cure: string }>> = {
  ENOSPC: { what: 'the disk is full', cure: 'free space, or write to another disk' },
  EDQUOT: { what: 'the disk quota is used up', cure: 'free space, or write to another disk' },
  EACCES: { what: 'permission denied', cure: 'give this user access, or choose another path' },
  EPERM: { what: 'permission denied', cure: 'give this user access, or choose another path' },
  EROFS: { what: 'the file system is read-only', cure: 'choose a path that can be written' },
  EMFILE: { what: 'too many files are open', cure: 'raise the limit: ulimit -n 4096' },
  ENOENT: { what: 'no such file or folder', cure: 'check the path' },
  ENOTDIR: { what: 'a part of the path is not a folder', cure: 'check the path' },
  EEXIST: { what: 'something is already there', cure: 'choose another path' },
  EISDIR: { what: 'this is a folder, not a file', cure: 'give the path of a file' },
};

/** Null when the error is none of the system's that are known here. */
export function failureOfSystemError(error: unknown, where?: string): QianmoError | null {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string')
    return null;
  const known = REPORTS[error.code];
  if (known === undefined) return null;
  const path = 'path' in error && typeof error.path === 'string' ? error.path : where;
  return new QianmoError({
    kind: 'environment',
    ...known,
    ...(path === undefined ? {} : { where: path }),
    found: error.message,
    cause: error,
  });
}
