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

const LINE_BREAK = 10;

/** @param byteCountMax where the log is longer, its end is read. */
export async function readLastEvents(
  place: RecordPlace,
  byteCountMax: number,
): Promise<ReadEvents> {
  const newestFirst = [...(await place.sequences())].reverse();
  const parts: Uint8Array[] = [];
  let left = byteCountMax;
  for (const sequence of newestFirst) {
    if (left <= 0) break;
    const { bytes, offset } = await place.read(sequence, -left);
    // A part from the middle of a segment begins in the middle of a line.
    parts.unshift(offset === 0 ? bytes : bytes.subarray(bytes.indexOf(LINE_BREAK) + 1));
    left -= bytes.byteLength;
  }
  return eventsOf(parts);
}

/** A reader that stays at its place in a log, however it is rolled. */
export class RecordFollower {
  readonly #place: RecordPlace;
  #sequence = 0;
  #offset = 0;

  constructor(place: RecordPlace) {
    this.#place = place;
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
  async *nextParts(): AsyncGenerator<ReadEvents> {
    for (const sequence of await this.#place.sequences()) {
      if (sequence < this.#sequence) continue;
      if (sequence > this.#sequence) this.#offset = 0;
      this.#sequence = sequence;
      const { bytes } = await this.#place.read(sequence, this.#offset);
      const whole = bytes.subarray(0, wholeLinesByteCount(bytes));
      this.#offset += whole.byteLength;
      if (whole.byteLength > 0) yield eventsOf([whole]);
    }
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
