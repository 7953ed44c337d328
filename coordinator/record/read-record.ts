/** Reads the events of a run from its record: the last ones for a view, all of them, or those that come. */

import { QianmoError } from '../../shared/base/errors.js';
import { parseEventLine } from '../../shared/events/event-lines.js';
import { wholeLinesByteCount } from '../../shared/events/log-segments.js';
import type { StampedEvent } from '../../shared/events/run-events.js';
import type { RecordPlace } from './record-place.js';

interface ReadEvents {
  readonly events: readonly StampedEvent[];
  /** Lines that this version does not know. */
  readonly unknownCount: number;
}

/** A place in a log, behind a whole line. */
interface LogPosition {
  readonly sequence: number;
  readonly offset: number;
  /** The bytes just before the offset, by which another log in the same place is told apart. */
  readonly bytesBefore: Uint8Array;
}

interface LastEvents extends ReadEvents {
  /** There are no earlier ones. */
  readonly isWhole: boolean;
  readonly end: LogPosition;
}

interface ComingEvents extends ReadEvents {
  /** They begin another log than the one that was followed, as of a run that was removed and begun anew. */
  readonly isAnew: boolean;
}

const LINE_BREAK = 10;
/** Some lines, of which each has its time. */
const BYTE_COUNT_BEFORE = 512;
const BEGINNING: LogPosition = { sequence: 0, offset: 0, bytesBefore: new Uint8Array(0) };

/** @param byteCountMax where the log is longer, its end is read. */
export async function readLastEvents(
  place: RecordPlace,
  byteCountMax: number,
): Promise<LastEvents> {
  const newestFirst = [...(await place.sequences())].reverse();
  const parts: Uint8Array[] = [];
  let left = byteCountMax;
  let end: LogPosition = BEGINNING;
  for (const sequence of newestFirst) {
    if (left <= 0) break;
    const { bytes, offset } = await place.read(sequence, -left);
    if (sequence === newestFirst[0]) end = positionAfter(wholeLinesOf(bytes), sequence, offset);
    // A part from the middle of a segment begins in the middle of a line.
    parts.unshift(offset === 0 ? bytes : bytes.subarray(bytes.indexOf(LINE_BREAK) + 1));
    left -= bytes.byteLength;
  }
  return { ...eventsOf(parts), isWhole: left > 0, end };
}

/** A reader that stays at its place in a log, however it is rolled. */
export class RecordFollower {
  readonly #place: RecordPlace;
  #position: LogPosition;
  #isAnew = false;

  constructor(place: RecordPlace, position = BEGINNING) {
    this.#place = place;
    this.#position = position;
  }

  /** The events since the last call; at the first one, all that the record holds. */
  async next(): Promise<ReadEvents> {
    const events: StampedEvent[] = [];
    let unknownCount = 0;
    for await (const part of this.nextParts()) {
      for (const event of part.events) events.push(event);
      unknownCount += part.unknownCount;
    }
    return { events, unknownCount };
  }

  /** The same, segment by segment, so that no more than one is in memory. */
  async *nextParts(): AsyncGenerator<ComingEvents> {
    const sequences = await this.#place.sequences();
    if ((sequences.at(-1) ?? 0) < this.#position.sequence) this.#beginAnew();
    for (const sequence of sequences) {
      if (sequence < this.#position.sequence) continue;
      const isSameSegment = sequence === this.#position.sequence;
      const { offset, bytesBefore } = isSameSegment ? this.#position : BEGINNING;
      const part = await this.#place.read(sequence, offset - bytesBefore.byteLength);
      // It was rolled away since the segments were listed.
      if (part.bytes.byteLength === 0 && part.offset === 0) continue;
      if (part.offset + bytesBefore.byteLength !== offset || !beginsWith(part.bytes, bytesBefore)) {
        this.#beginAnew();
        yield* this.nextParts();
        return;
      }
      const whole = wholeLinesOf(part.bytes);
      this.#position = positionAfter(whole, sequence, part.offset);
      const coming = whole.subarray(bytesBefore.byteLength);
      if (coming.byteLength === 0) continue;
      const isAnew = this.#isAnew;
      this.#isAnew = false;
      yield { ...eventsOf([coming]), isAnew };
    }
  }

  #beginAnew(): void {
    this.#position = BEGINNING;
    this.#isAnew = true;
  }
}

function wholeLinesOf(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(0, wholeLinesByteCount(bytes));
}

/** @param offset where the lines begin in the segment */
function positionAfter(lines: Uint8Array, sequence: number, offset: number): LogPosition {
  const bytesBefore = new Uint8Array(lines.subarray(-BYTE_COUNT_BEFORE));
  return { sequence, offset: offset + lines.byteLength, bytesBefore };
}

function beginsWith(bytes: Uint8Array, beginning: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(0, beginning.byteLength), beginning) === 0;
}

function eventsOf(parts: readonly Uint8Array[]): ReadEvents {
  const events: StampedEvent[] = [];
  let unknownCount = 0;
  for (const part of parts) {
    const text = Buffer.from(part.buffer, part.byteOffset, wholeLinesByteCount(part)).toString();
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const event = eventOrNull(line);
      if (event === null) unknownCount += 1;
      else events.push(event);
    }
  }
  return { events, unknownCount };
}

/** Null for a line of another version, or one that a process that was killed has left half written. */
function eventOrNull(line: string): StampedEvent | null {
  try {
    return parseEventLine(line);
  } catch (error) {
    if (error instanceof QianmoError) return null;
    throw error;
  }
}
