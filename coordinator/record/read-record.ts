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
const BEGINNING: LogPosition = { sequence: 0, offset: 0 };

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
    if (sequence === newestFirst[0])
      end = { sequence, offset: offset + wholeLinesByteCount(bytes) };
    // A part from the middle of a segment begins in the middle of a line.
    parts.unshift(offset === 0 ? bytes : bytes.subarray(bytes.indexOf(LINE_BREAK) + 1));
    left -= bytes.byteLength;
  }
  return { ...eventsOf(parts), isWhole: left > 0, end };
}

/** A reader that stays at its place in a log, however it is rolled. */
export class RecordFollower {
  readonly #place: RecordPlace;
  #sequence: number;
  #offset: number;
  #isAnew = false;

  constructor(place: RecordPlace, { sequence, offset } = BEGINNING) {
    this.#place = place;
    [this.#sequence, this.#offset] = [sequence, offset];
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
    if ((sequences.at(-1) ?? 0) < this.#sequence) this.#beginAnew();
    for (const sequence of sequences) {
      if (sequence < this.#sequence) continue;
      if (sequence > this.#sequence) this.#offset = 0;
      this.#sequence = sequence;
      const bytes = await this.#bytesOf(sequence);
      const whole = bytes.subarray(0, wholeLinesByteCount(bytes));
      this.#offset += whole.byteLength;
      if (whole.byteLength === 0) continue;
      const isAnew = this.#isAnew;
      this.#isAnew = false;
      yield { ...eventsOf([whole]), isAnew };
    }
  }

  #beginAnew(): void {
    [this.#sequence, this.#offset, this.#isAnew] = [0, 0, true];
  }

  /** From the place in the segment on; from its beginning if it is shorter than it was. */
  async #bytesOf(sequence: number): Promise<Uint8Array> {
    const { bytes, offset } = await this.#place.read(sequence, this.#offset);
    if (offset === this.#offset) return bytes;
    this.#beginAnew();
    this.#sequence = sequence;
    return (await this.#place.read(sequence, 0)).bytes;
  }
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
