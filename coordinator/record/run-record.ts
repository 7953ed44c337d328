/** The record of a run, for readers: the events in the segments of its log, in a folder or in an object store. */

import { QianmoError } from '../../shared/base/errors.js';
import {
  wholeLinesByteCount,
  LOG_FOLDER,
  SEGMENT_BOUNDS,
  segmentNameOf,
  sequencesOf,
} from '../../shared/events/event-log.js';
import { parseEventLine } from '../../shared/events/event-lines.js';
import type { StampedEvent } from '../../shared/events/run-events.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { openObjectStore } from '../../shared/storage/open-object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';

interface ReadEvents {
  readonly events: readonly StampedEvent[];
  /** Lines that this version does not know. */
  readonly unknownCount: number;
}

interface ComingEvents extends ReadEvents {
  /** They begin another log than the one that was followed, as of a run that was removed and begun anew. */
  readonly isAnew: boolean;
}

const PREFIX = `${LOG_FOLDER}/`;
/** An object may exceed the bound of a segment by the lines of one write. */
const SEGMENT_BYTE_COUNT_MAX = 2 * SEGMENT_BOUNDS.segmentByteCountMax;
const LINE_BREAK = 10;

export class RunRecord {
  /** The output of the run. */
  readonly address: string;
  readonly #store: ObjectStore;

  /** @throws QianmoError `usage` if the output is not an address. */
  constructor(output: string, s3: S3Options) {
    this.#store = openObjectStore(output, s3);
    const isBucket = output.startsWith('s3://');
    this.address = isBucket ? this.#store.address : output.replace(/^file:\/\//, '');
  }

  /** A text that changes whenever the log does; null if the output has no log. */
  async version(): Promise<string | null> {
    const newest = (await this.#store.listWithTimes(PREFIX)).at(-1);
    // S3 has times in whole seconds, within which a segment may be put twice.
    return newest === undefined ? null : `${newest.key} ${newest.byteCount} ${newest.modifiedMs}`;
  }

  /** The numbers of the segments, ascending. */
  async sequences(): Promise<number[]> {
    return sequencesOf((await this.#store.list(PREFIX)).map((key) => key.slice(PREFIX.length)));
  }

  /** The whole lines of a segment; null if it is gone. */
  async segment(sequence: number): Promise<Uint8Array | null> {
    const key = `${PREFIX}${segmentNameOf(sequence)}`;
    const bytes = (await this.#store.get(key, SEGMENT_BYTE_COUNT_MAX))?.bytes;
    return bytes?.subarray(0, wholeLinesByteCount(bytes)) ?? null;
  }

  /** @param byteCountMax where the log is longer, its end is read */
  async lastEvents(byteCountMax: number): Promise<ReadEvents & { readonly isWhole: boolean }> {
    const parts: Uint8Array[] = [];
    let left = byteCountMax;
    for (const sequence of (await this.sequences()).reverse()) {
      if (left <= 0) break;
      const lines = (await this.segment(sequence)) ?? new Uint8Array(0);
      const end = lines.subarray(-left);
      // A part from the middle of a segment begins in the middle of a line.
      const isCut = end.byteLength < lines.byteLength;
      parts.unshift(isCut ? end.subarray(end.indexOf(LINE_BREAK) + 1) : end);
      left -= lines.byteLength;
    }
    return { ...eventsIn(Buffer.concat(parts)), isWhole: left > 0 };
  }
}

/** Some lines, of which each has its time. */
const BYTE_COUNT_BEFORE = 512;

/** A reader that keeps its place in a log, however the log is rolled. */
export class RecordFollower {
  readonly #record: Pick<RunRecord, 'sequences' | 'segment'>;
  #sequence = 0;
  #offset = 0;
  /** The bytes just before the offset, by which another log in the same place is told apart. */
  #before: Uint8Array = new Uint8Array(0);
  #isAnew = false;

  constructor(record: Pick<RunRecord, 'sequences' | 'segment'>) {
    this.#record = record;
  }

  /** The events since the last call, segment by segment; at the first call, all that the record holds. */
  async *parts(): AsyncGenerator<ComingEvents> {
    const sequences = await this.#record.sequences();
    if ((sequences.at(-1) ?? 0) < this.#sequence) this.#beginAnew();
    for (const sequence of sequences) {
      if (sequence < this.#sequence) continue;
      const lines = await this.#record.segment(sequence);
      // It was rolled away since the segments were listed.
      if (lines === null) continue;
      if (sequence > this.#sequence) [this.#offset, this.#before] = [0, new Uint8Array(0)];
      const before = lines.subarray(this.#offset - this.#before.byteLength, this.#offset);
      if (Buffer.compare(before, this.#before) !== 0) {
        this.#beginAnew();
        yield* this.parts();
        return;
      }
      const coming = lines.subarray(this.#offset);
      this.#sequence = sequence;
      this.#offset = lines.byteLength;
      this.#before = Uint8Array.from(lines.subarray(-BYTE_COUNT_BEFORE));
      if (coming.byteLength === 0) continue;
      const isAnew = this.#isAnew;
      this.#isAnew = false;
      yield { ...eventsIn(coming), isAnew };
    }
  }

  #beginAnew(): void {
    [this.#sequence, this.#offset, this.#before] = [0, 0, new Uint8Array(0)];
    this.#isAnew = true;
  }
}

function eventsIn(lines: Uint8Array): ReadEvents {
  const events: StampedEvent[] = [];
  let unknownCount = 0;
  for (const line of Buffer.from(lines.buffer, lines.byteOffset, lines.byteLength)
    .toString()
    .split('\n')) {
    if (line === '') continue;
    try {
      events.push(parseEventLine(line));
    } catch (error) {
      // A line of another version, or one that a killed process has left half written.
      if (!(error instanceof QianmoError)) throw error;
      unknownCount += 1;
    }
  }
  return { events, unknownCount };
}
