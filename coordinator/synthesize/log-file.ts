/** Writes files that appear whole or not at all: beside their place first, then renamed. */

import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { failureOfSystemError } from '../../shared/base/system-errors.js';

/** The name a file has until it is complete. */
function unfinishedPath(path: string): string {
  return `${path}.unfinished`;
}

/**
 * Calls `write` with an open file. Gives the file its name on success and removes it on failure.
 * @param shownPath the path that a failure names, if `path` is an intermediate file
 * @throws QianmoError of kind `environment` if the file system refuses
 */
export async function writeWhole(
  path: string,
  write: (file: FileHandle) => Promise<void>,
  shownPath = path,
): Promise<void> {
  const writeOpened = async (unfinished: string): Promise<void> => {
    const file = await open(unfinished, 'w');
    try {
      await write(file);
    } finally {
      await file.close();
    }
  };
  await placeWhole(path, writeOpened, shownPath);
}

/** As `writeWhole`, for a writer that opens the path itself. */
export async function placeWhole(
  path: string,
  write: (unfinished: string) => Promise<void>,
  shownPath = path,
): Promise<void> {
  const unfinished = unfinishedPath(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    await write(unfinished);
    await rename(unfinished, path);
  } catch (cause) {
    await rm(unfinished, { force: true }).catch(() => undefined);
    throw failureOfSystemError(cause, shownPath) ?? cause;
  }
}

/** Writes all bytes, since one call of `FileHandle.write` may write fewer. */
export async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, offset, bytes.length - offset);
    offset += bytesWritten;
  }
}
