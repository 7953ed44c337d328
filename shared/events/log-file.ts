/**
 * A log in one file that the user names. The file is bounded: a full one becomes `FILE.1`, in place of
 * an earlier `FILE.1`. A file that another program moved away is begun anew.
 */

import { open, rename, stat, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { makeFolders } from '../storage/file-bytes.js';
import { cutHalfLine } from './appended-lines.js';
import type { EventLogPlace } from './log-segments.js';

/** With `FILE.1`, a log takes at most twice this. */
const FILE_BYTE_COUNT_MAX = 16 * 1024 * 1024;

export function logFilePlace(file: string, byteCountMax = FILE_BYTE_COUNT_MAX): EventLogPlace {
  const path = resolve(file);
  let opened: FileHandle | null = null;

  const openAtEnd = async (): Promise<FileHandle> => {
    await makeFolders(dirname(path));
    const handle = await open(path, 'a+');
    await cutHalfLine(handle);
    return handle;
  };
  const close = async (): Promise<void> => {
    const closing = opened;
    opened = null;
    await closing?.close();
  };

  return {
    address: path,
    append: async (lines) => {
      const bytes = Buffer.from(lines);
      try {
        if (opened !== null && !(await isAt(path, opened))) await close();
        opened ??= await openAtEnd();
        const { size } = await opened.stat();
        if (size > 0 && size + bytes.byteLength > byteCountMax) {
          await close();
          await rename(path, `${path}.1`);
          opened = await openAtEnd();
        }
        await opened.appendFile(bytes);
      } catch (error) {
        // The next write opens the file anew, and cuts off what was written of this one.
        await close().catch(() => undefined);
        throw error;
      }
    },
    save: () => Promise.resolve(),
    close,
  };
}

/** Whether the path still names the open file. */
async function isAt(path: string, handle: FileHandle): Promise<boolean> {
  const [named, own] = await Promise.all([stat(path).catch(() => null), handle.stat()]);
  return named?.ino === own.ino;
}
