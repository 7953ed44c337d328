/**
 * The log of a run's events: lines of JSON. The run never waits for it: an event only puts a line into
 * a bounded queue. When the place cannot be written, events are lost, the failure is reported once, and
 * the run goes on.
 */

import type { Clock } from '../base/clock.js';
import { systemCodeOf } from '../base/system-errors.js';
import { openObjectStore } from '../storage/open-object-store.js';
import type { S3Options } from '../storage/s3-object-store.js';
import { boundedRate } from './bounded-rate.js';
import { encodeEvent } from './event-lines.js';
import { folderLogPlace } from './folder-log-place.js';
import type { EventLogPlace, SegmentBounds } from './log-segments.js';
import { objectLogPlace } from './object-log-place.js';
import type { EventKind, RunEventOf, StampedEvent, StampedEventSink } from './run-events.js';

export interface EventLog {
  readonly sink: StampedEventSink;
  /** Writes and saves the events so far, in bounded time. Later events are ignored. */
  close(): Promise<void>;
}

interface EventLogOptions {
  readonly place: EventLogPlace;
  readonly clock: Clock;
  /** Called at the first failure of the place, and not again. */
  readonly onFailure: (event: RunEventOf<'event-log-failed'>) => void;
}

/** The number of characters in the queue. Events beyond it are dropped and counted. */
const QUEUED_LENGTH_MAX = 2 * 1024 * 1024;
/** After a failed write, nothing is written for this time. */
const RETRY_DELAY_MS = 30_000;
const SAVE_INTERVAL_MS = 30_000;
/** Events that follow a write so soon are written together: outer steps of a few ms would spend a part of their time on it. */
const WRITE_INTERVAL_MS = 100;
const CLOSE_TIMEOUT_MS = 10_000;
/** After these events the log is saved at once, for readers on other machines. */
const SAVED_AT: ReadonlySet<EventKind> = new Set(['checkpoint', 'run-finished', 'run-failed']);

interface LogTerms {
  readonly s3: S3Options;
  /** The bounds of a run by default. */
  readonly bounds?: SegmentBounds | undefined;
}

/** A log in the folder `events` of a run's output: on this machine, or in an object store. */
export function openEventLog(
  output: string,
  { s3, bounds, ...options }: Omit<EventLogOptions, 'place'> & LogTerms,
): EventLog {
  const place = output.startsWith('s3://')
    ? objectLogPlace(openObjectStore(output, s3), bounds)
    : folderLogPlace(output.replace(/^file:\/\//, ''), bounds);
  return createEventLog({ ...options, place });
}

export function createEventLog(options: EventLogOptions): EventLog {
  const writer = new LogWriter(options);
  return {
    sink: boundedRate(options.clock, (event) => writer.tell(event)),
    close: () => writer.close(),
  };
}

class LogWriter {
  readonly #options: EventLogOptions;
  #queued: string[] = [];
  #queuedLength = 0;
  #droppedCount = 0;
  #lastEpochMs = 0;
  /** The beginning is saved at once: until then, readers elsewhere see the call before. */
  #isSaveDue = true;
  #savedMs: number;
  #failedMs = Number.NEGATIVE_INFINITY;
  #hasToldFailure = false;
  #isClosed = false;
  #writing: Promise<void> | null = null;
  /** Ends the wait between two writes. */
  #hurry = new AbortController();

  constructor(options: EventLogOptions) {
    this.#options = options;
    this.#savedMs = options.clock.monotonicMs();
  }

  tell(event: StampedEvent): void {
    if (this.#isClosed) return;
    this.#lastEpochMs = event.epochMs;
    const line = `${encodeEvent(event)}\n`;
    const isResting = this.#options.clock.monotonicMs() - this.#failedMs < RETRY_DELAY_MS;
    if (isResting || this.#queuedLength + line.length > QUEUED_LENGTH_MAX) {
      this.#droppedCount += 1;
      return;
    }
    this.#queued.push(line);
    this.#queuedLength += line.length;
    if (SAVED_AT.has(event.kind)) {
      this.#isSaveDue = true;
      this.#hurry.abort();
    }
    this.#writing ??= this.#writeAll();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#hurry.abort();
    const { clock, place } = this.#options;
    const isDone = new AbortController();
    const finishing = (async () => {
      await this.#writing;
      // A place that has just failed gets a last chance, because the end of a run matters most.
      await this.#write(true);
      await place.close().catch(() => undefined);
      isDone.abort();
    })();
    await Promise.race([finishing, clock.sleep(CLOSE_TIMEOUT_MS, isDone.signal)]);
  }

  async #writeAll(): Promise<void> {
    // Events of the same turn are written together.
    await Promise.resolve();
    const { clock } = this.#options;
    while (this.#queued.length > 0) {
      await this.#write(this.#isSaveDue || clock.monotonicMs() - this.#savedMs >= SAVE_INTERVAL_MS);
      if (this.#isClosed) break;
      await clock.sleep(WRITE_INTERVAL_MS, this.#hurry.signal);
      this.#hurry = new AbortController();
    }
    this.#writing = null;
  }

  async #write(isSaved: boolean): Promise<void> {
    const { place, clock } = this.#options;
    const lines = this.#queued;
    this.#queued = [];
    this.#queuedLength = 0;
    const droppedCount = this.#droppedCount;
    this.#droppedCount = 0;
    let unwrittenCount = lines.length + droppedCount;
    try {
      if (droppedCount > 0) lines.push(this.#droppedLine(droppedCount));
      if (lines.length > 0) await place.append(lines.join(''));
      unwrittenCount = 0;
      if (!isSaved) return;
      this.#isSaveDue = false;
      this.#savedMs = clock.monotonicMs();
      await place.save();
    } catch (error) {
      this.#droppedCount += unwrittenCount;
      this.#failedMs = clock.monotonicMs();
      this.#tellFailure(error);
    }
  }

  #droppedLine(eventCount: number): string {
    const epochMs = this.#lastEpochMs;
    return `${encodeEvent({ kind: 'events-dropped', epochMs, eventCount })}\n`;
  }

  #tellFailure(error: unknown): void {
    if (this.#hasToldFailure) return;
    this.#hasToldFailure = true;
    const { onFailure, place } = this.#options;
    const reason = error instanceof Error ? error.message : String(error);
    const code = systemCodeOf(error);
    onFailure({
      kind: 'event-log-failed',
      address: place.address,
      reason: code === null || reason.includes(code) ? reason : `${code}: ${reason}`,
    });
  }
}
