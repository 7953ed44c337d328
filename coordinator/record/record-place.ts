/** The place of a run's event log, for readers: segments in a folder of this machine, or in an object store. */

import { open, readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemCodeOf } from '../../shared/base/system-errors.js';
import {
  LOG_FOLDER,
  SEGMENT_BOUNDS,
  segmentNameOf,
  sequencesOf,
} from '../../shared/events/log-segments.js';
import { openObjectStore } from '../../shared/storage/open-object-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';

export interface RecordPlace {
  /** The output of the run. */
  readonly address: string;
  /** The numbers of the segments, ascending; none if the output has no log. */
  sequences(): Promise<readonly number[]>;
  /** A text that changes whenever the log does; null if the output has no log. */
  version(): Promise<string | null>;
  /**
   * The bytes of a segment from an offset on; from the end if it is negative. None if the segment is gone.
   * `offset` in the answer is where they begin.
   */
  read(sequence: number, offset: number): Promise<SegmentPart>;
}

interface SegmentPart {
  readonly bytes: Uint8Array;
  readonly offset: number;
}

/** An object may exceed the bound of a segment by the lines of one write. */
const SEGMENT_BYTE_COUNT_MAX = 2 * SEGMENT_BOUNDS.segmentByteCountMax;

/** @throws QianmoError `usage` if the output is not an address. */
export function recordPlaceOf(output: string, s3: S3Options): RecordPlace {
  const store = openObjectStore(output, s3);
  return output.startsWith('s3://')
    ? objectPlace(store)
    : folderPlace(output.replace(/^file:\/\//, ''));
}

function folderPlace(output: string): RecordPlace {
  const folder = join(resolve(output), LOG_FOLDER);
  return {
    address: output,
    sequences: async () => sequencesOf(await unlessAbsent(readdir(folder), [])),
    version: async () => {
      const newest = sequencesOf(await unlessAbsent(readdir(folder), [])).at(-1);
      if (newest === undefined) return null;
      const found = await unlessAbsent(stat(join(folder, segmentNameOf(newest))), null);
      return found === null ? null : `${newest}-${found.size}-${found.mtimeMs}`;
    },
    read: async (sequence, offset) => {
      const file = await unlessAbsent(open(join(folder, segmentNameOf(sequence)), 'r'), null);
      if (file === null) return { bytes: new Uint8Array(0), offset: 0 };
      try {
        const { size } = await file.stat();
        const from = positionOf(offset, size);
        const bytes = Buffer.alloc(size - from);
        const { bytesRead } = await file.read(bytes, 0, bytes.byteLength, from);
        return { bytes: bytes.subarray(0, bytesRead), offset: from };
      } finally {
        await file.close();
      }
    },
  };
}

function objectPlace(store: ObjectStore): RecordPlace {
  return {
    address: store.address,
    sequences: async () => {
      const prefix = `${LOG_FOLDER}/`;
      return sequencesOf((await store.list(prefix)).map((key) => key.slice(prefix.length)));
    },
    version: async () => {
      const newest = (await store.listWithTimes(`${LOG_FOLDER}/`)).at(-1);
      // S3 tells times in whole seconds, within which a segment may be put twice.
      return newest === undefined ? null : `${newest.key}-${newest.byteCount}-${newest.modifiedMs}`;
    },
    read: async (sequence, offset) => {
      const key = `${LOG_FOLDER}/${segmentNameOf(sequence)}`;
      const bytes = (await store.get(key, SEGMENT_BYTE_COUNT_MAX))?.bytes ?? new Uint8Array(0);
      const from = positionOf(offset, bytes.byteLength);
      return { bytes: bytes.subarray(from), offset: from };
    },
  };
}

function positionOf(offset: number, byteCount: number): number {
  return Math.min(byteCount, offset < 0 ? Math.max(0, byteCount + offset) : offset);
}

async function unlessAbsent<Value, Instead>(
  reading: Promise<Value>,
  instead: Instead,
): Promise<Value | Instead> {
  try {
    return await reading;
  } catch (error) {
    const code = systemCodeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return instead;
    throw error;
  }
}
