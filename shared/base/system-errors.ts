/**
 * Turns errors of the operating system into reports that a user can act on. Knows codes, not
 * vendors.
 */

import { QianmoError, errorOf } from './errors.js';

const SPACE_CURE = 'free up space or choose a folder on another disk; no partial file was kept';
const MEMORY_CURE = 'free memory, or raise the limits on memory and processes (ulimit -a)';
const ACCESS_CURE = 'give this user access to it, or choose another place';

interface Meaning {
  readonly what: string;
  readonly expected?: string;
  readonly cure: string;
}

const MEANING_BY_CODE: Readonly<Record<string, Meaning>> = {
  ENOSPC: { what: 'the disk is full', cure: SPACE_CURE },
  EDQUOT: { what: 'the disk quota is used up', cure: SPACE_CURE },
  EACCES: { what: 'permission denied', cure: ACCESS_CURE },
  EPERM: { what: 'permission denied', cure: ACCESS_CURE },
  EROFS: {
    what: 'the disk is read-only',
    expected: 'a folder that can be written',
    cure: 'choose a folder that can be written',
  },
  EMFILE: { what: 'too many files are open', cure: 'raise the limit of open files (ulimit -n)' },
  ENFILE: { what: 'too many files are open', cure: 'raise the limit of open files (fs.file-max)' },
  ENOMEM: { what: 'the memory is used up', cure: MEMORY_CURE },
  EAGAIN: { what: 'the system cannot start another process', cure: MEMORY_CURE },
  EIO: { what: 'the disk does not read or write', cure: 'check the disk and its file system' },
  ENOENT: { what: 'there is no such file or folder', cure: 'check the path' },
  ENOTDIR: { what: 'a part of the path is not a folder', cure: 'check the path' },
  EEXIST: { what: 'something is already there', cure: 'choose another path, or move it away' },
  EISDIR: { what: 'this is a folder, not a file', cure: 'give the path of a file' },
};

/** The code of a Node system error (`ENOSPC`), or null. */
export function systemCodeOf(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error)) return null;
  return typeof error.code === 'string' ? error.code : null;
}

/** Codes that tell of the machine, whatever was asked of it. */
const MACHINE_CODES: ReadonlySet<string> = new Set([
  ...['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'],
]);

/** True if a resource of this machine is used up or broken, by the error or one of its causes. */
export function isOfTheMachine(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return MACHINE_CODES.has(systemCodeOf(error) ?? '') || isOfTheMachine(error.cause);
}

function meaningOf(error: unknown): Meaning | null {
  const code = systemCodeOf(error) ?? '';
  // Creating an existing folder is not an error, so here a file has the name of the folder.
  const isFileForFolder =
    code === 'EEXIST' && error instanceof Error && 'syscall' in error && error.syscall === 'mkdir';
  return MEANING_BY_CODE[isFileForFolder ? 'ENOTDIR' : code] ?? null;
}

/** Null if the error is not one of the known system errors. */
export function failureOfSystemError(error: unknown, where?: string): QianmoError | null {
  const meaning = meaningOf(error);
  if (meaning === null || !(error instanceof Error)) return null;
  const path =
    where ?? ('path' in error && typeof error.path === 'string' ? error.path : undefined);
  return new QianmoError({
    kind: 'environment',
    ...meaning,
    ...(path === undefined ? {} : { where: path }),
    found: error.message,
    cause: error,
  });
}

/**
 * Reports what was being done and why the system refused it. A QianmoError is returned unchanged.
 *
 * @param doing the action, as in `reading a log file`.
 */
export function systemFailure(cause: unknown, doing: string, where: string): QianmoError {
  if (cause instanceof QianmoError) return cause;
  const meaning = meaningOf(cause);
  return errorOf('environment', `${meaning?.what ?? 'something failed'} while ${doing}`, {
    where,
    ...(meaning?.expected === undefined ? {} : { expected: meaning.expected }),
    ...(cause instanceof Error ? { found: cause.message } : {}),
    cure: meaning?.cure ?? 'see the reason above; the disk or its file system may be damaged',
    cause,
  });
}
