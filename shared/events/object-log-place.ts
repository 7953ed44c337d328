/**
 * A log in an object store. Objects cannot be appended to, so the newest segment is held in memory and
 * put again at each `save`. Between two saves the log takes the memory of at most two segments.
 */

import type { ObjectStore } from '../storage/object-store.js';
import {
  LOG_FOLDER,
  outdatedOf,
  SEGMENT_BOUNDS,
  segmentNameOf,
  sequencesOf,
  wholeLinesByteCount,
  type EventLogPlace,
} from './log-segments.js';

/** Another process may put the same segment at the same time. A second attempt keeps the lines of both. */
const SAVE_ATTEMPTS_MAX = 3;

interface SavedSegment {
  readonly sequence: number;
  /** Null when there is no such object yet. */
  readonly etag: string | null;
  readonly bytes: Uint8Array;
}

/** @param output holds the segments under `events/`. */
export function objectLogPlace(output: ObjectStore, bounds = SEGMENT_BOUNDS): EventLogPlace {
  let saved: SavedSegment | null = null;
  let unsaved: Uint8Array = new Uint8Array();

  const sequences = async (): Promise<number[]> =>
    sequencesOf(
      (await output.list(`${LOG_FOLDER}/`)).map((key) => key.slice(LOG_FOLDER.length + 1)),
    );
  const newestSegment = async (): Promise<SavedSegment> => {
    const sequence = (await sequences()).at(-1) ?? 1;
    const object = await output.get(keyOf(sequence));
    const bytes = object?.bytes ?? new Uint8Array();
    return {
      sequence,
      etag: object?.etag ?? null,
      bytes: bytes.subarray(0, wholeLinesByteCount(bytes)),
    };
  };
  /** The segment with the unsaved lines at its end, or a new one where it would grow too large. */
  const extended = ({ sequence, etag, bytes }: SavedSegment): SavedSegment => {
    const isFull =
      bytes.byteLength > 0 && bytes.byteLength + unsaved.byteLength > bounds.segmentByteCountMax;
    return isFull
      ? { sequence: sequence + 1, etag: null, bytes: unsaved }
      : { sequence, etag, bytes: Buffer.concat([bytes, unsaved]) };
  };
  const save = async (): Promise<void> => {
    for (let attempt = 1; unsaved.byteLength > 0; attempt += 1) {
      const before = saved ?? (await newestSegment());
      const { sequence, etag, bytes } = extended(before);
      const written = await output.put(
        keyOf(sequence),
        bytes,
        etag === null ? { kind: 'absent' } : { kind: 'unchanged', etag },
      );
      saved = written === null ? null : { sequence, etag: written, bytes };
      if (written !== null) {
        unsaved = new Uint8Array();
        if (sequence > before.sequence)
          for (const old of outdatedOf(await sequences(), sequence, bounds))
            await output.delete(keyOf(old));
      } else if (attempt === SAVE_ATTEMPTS_MAX)
        throw new Error('another process writes this log at the same time');
    }
  };

  return {
    address: `${output.address}/${LOG_FOLDER}`,
    append: async (lines) => {
      const bytes = Buffer.from(lines);
      if (unsaved.byteLength + bytes.byteLength > bounds.segmentByteCountMax) await save();
      unsaved = Buffer.concat([unsaved, bytes]);
    },
    save,
    close: () => Promise.resolve(),
  };
}

function keyOf(sequence: number): string {
  return `${LOG_FOLDER}/${segmentNameOf(sequence)}`;
}
