/**
 * A log in a folder of this machine. Several processes may append to it: each write is of whole
 * lines, at the end of the newest segment.
 */

import { open, readdir, rm, type FileHandle } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { makeFolders } from '../storage/file-bytes.js';
import { cutHalfLine } from './appended-lines.js';
import {
  LOG_FOLDER,
  outdatedOf,
  SEGMENT_BOUNDS,
  segmentNameOf,
  sequencesOf,
  type EventLogPlace,
} from './log-segments.js';

interface OpenSegment {
  readonly sequence: number;
  readonly file: FileHandle;
}

/** @param output the folder of the run; the segments lie in `events` within it. */
export function folderLogPlace(output: string, bounds = SEGMENT_BOUNDS): EventLogPlace {
  const folder = join(resolve(output), LOG_FOLDER);
  let segment: OpenSegment | null = null;

  const openSegment = async (sequence: number): Promise<OpenSegment> => {
    const file = await open(join(folder, segmentNameOf(sequence)), 'a+');
    await cutHalfLine(file);
    return { sequence, file };
  };
  const newestSegment = async (): Promise<OpenSegment> => {
    await makeFolders(folder);
    return openSegment(sequencesOf(await readdir(folder)).at(-1) ?? 1);
  };
  const nextSegment = async ({ sequence, file }: OpenSegment): Promise<OpenSegment> => {
    await file.close();
    const next = await openSegment(sequence + 1);
    for (const old of outdatedOf(sequencesOf(await readdir(folder)), next.sequence, bounds))
      await rm(join(folder, segmentNameOf(old)), { force: true });
    return next;
  };

  return {
    address: folder,
    append: async (lines) => {
      const bytes = Buffer.from(lines);
      try {
        segment ??= await newestSegment();
        const { size } = await segment.file.stat();
        if (size > 0 && size + bytes.byteLength > bounds.segmentByteCountMax)
          segment = await nextSegment(segment);
        await segment.file.appendFile(bytes);
      } catch (error) {
        // The next write opens the log anew, and cuts off what was written of this one.
        await segment?.file.close().catch(() => undefined);
        segment = null;
        throw error;
      }
    },
    save: () => Promise.resolve(),
    close: async () => {
      await segment?.file.close();
      segment = null;
    },
  };
}
