/**
 * The log of a run's events: lines of JSON in segments of bounded size, of which the newest few are kept. The run never
 * waits for it: an event only puts a line into a bounded queue. When the place cannot be written, events are lost, the
 * failure is reported once, and the run goes on.
 */

import { open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '../base/clock.js';
import { LruCache } from '../base/lru-cache.js';
import { systemCodeOf } from '../base/system-errors.js';
import { makeFolders, makeFolderDurably, syncFolder } from '../storage/file-bytes.js';
import type { ObjectStore } from '../storage/object-store.js';
import { openObjectStore } from '../storage/open-object-store.js';
import type { S3Options } from '../storage/s3-object-store.js';
import { encodeEvent } from './event-lines.js';
import type { EventKind, RunEventOf, StampedEvent, StampedEventSink } from './run-events.js';
import { createReadStream, type ReadStream } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';

/** Holds the segments of one log. */
interface EventLogPlace {
  readonly address: string;
  /** @param lines whole lines, each with its line break. */
  append(lines: string): Promise<void>;
  /** Makes durable what was appended. */
  save(): Promise<void>;
  close(): Promise<void>;
}

export const LOG_FOLDER = 'events';

export interface SegmentBounds {
  readonly segmentByteCountMax: number;
  readonly segmentCountMax: number;
}

/** 32 MiB of lines: some 100,000 outer steps. */
export const SEGMENT_BOUNDS: SegmentBounds = {
  segmentByteCountMax: 4 * 1024 * 1024,
  segmentCountMax: 8,
};

const DIGIT_COUNT = 6;
const SEGMENT_NAME = /^events-(\d+)\.ndjson$/;

/** `events-000012.ndjson` */
export function segmentNameOf(sequence: number): string {
  return `events-${String(sequence).padStart(DIGIT_COUNT, '0')}.ndjson`;
}

/** Returns the numbers of the segments in ascending order. Other names are ignored. */
export function sequencesOf(names: readonly string[]): number[] {
  return names
    .flatMap((name) => {
      const digits = SEGMENT_NAME.exec(name)?.[1];
      return digits === undefined ? [] : [Number(digits)];
    })
    .sort((a, b) => a - b);
}

/** Returns the segments to remove when `newest` has begun. */
function outdatedOf(
  sequences: readonly number[],
  newest: number,
  { segmentCountMax }: SegmentBounds,
): number[] {
  return sequences.filter((sequence) => sequence <= newest - segmentCountMax);
}

interface EventLog {
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

/** The least time between two events of one kind, worker and stage. */
const INTERVAL_MS = 1_000;
/** The number of stages and workers that are told apart. */
const SUBJECT_COUNT_MAX = 1_000;

/**
 * Limits the rate of frequent kinds of events, for sinks to which each event is a cost: a log file, a channel between
 * processes. Every other event passes.
 */
export function boundedRate(clock: Clock, sink: StampedEventSink): StampedEventSink {
  const passedMsBySubject = new LruCache<string, number>({ countMax: SUBJECT_COUNT_MAX });
  return (event) => {
    const subject = subjectOf(event);
    if (subject === null) {
      sink(event);
      return;
    }
    const nowMs = clock.monotonicMs();
    const passedMs = passedMsBySubject.get(subject) ?? Number.NEGATIVE_INFINITY;
    const isLast = event.kind === 'progress' && event.done === event.total;
    if (nowMs - passedMs < INTERVAL_MS && !isLast) return;
    passedMsBySubject.put(subject, nowMs);
    sink(event);
  };
}

/** Returns the subject whose events have a limited rate; null when every event passes. */
function subjectOf(event: StampedEvent): string | null {
  switch (event.kind) {
    case 'progress':
      return `${event.kind} ${event.stage}`;
    case 'job-progress':
    case 'job-started':
    case 'job-finished':
      return `${event.kind} ${event.worker ?? ''}`;
    default:
      return null;
  }
}

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

/** With `FILE.1`, a log takes at most twice this. */
const FILE_BYTE_COUNT_MAX = 16 * 1024 * 1024;

/**
 * A log in one file that the user names. The file is bounded: a full one becomes `FILE.1`, in place of an earlier
 * `FILE.1`. A file that another program moved away is begun anew.
 */
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

/** True while the path names the open file. */
async function isAt(path: string, handle: FileHandle): Promise<boolean> {
  const [named, own] = await Promise.all([stat(path).catch(() => null), handle.stat()]);
  return named?.ino === own.ino;
}

const LINE_BREAK = 10;
const PIECE_BYTE_COUNT = 256 * 1024;

/**
 * Opens the file for appending, makes it where it is missing, and cuts off half a line at its end.
 * @param take gets each line that is left, in order, with its place as `path:number`
 * @throws what `take` throws; then no file stays open.
 */
export async function openAppendedLines(
  path: string,
  take: (line: string, where: string) => void,
): Promise<FileHandle> {
  await makeFolderDurably(dirname(path));
  const file = await open(path, 'a+');
  try {
    await cutHalfLine(file);
    await syncFolder(dirname(path));
    let number = 0;
    for await (const line of linesOf(createReadStream(path))) {
      number += 1;
      take(line, `${path}:${number}`);
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * The lines of a file, which is closed when the reading ends, also where it ends early. `node:readline` ends a line at U+2028
 * and U+2029 too, from Node 24 on, and JSON has both within texts.
 */
async function* linesOf(input: ReadStream): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let begun = '';
  try {
    for await (const chunk of input as AsyncIterable<string | Buffer>) {
      const text = typeof chunk === 'string' ? chunk : decoder.write(chunk);
      const [first = '', ...others] = text.split('\n');
      begun += first;
      for (const next of others) {
        yield withoutReturn(begun);
        begun = next;
      }
    }
    if (begun !== '') yield withoutReturn(begun);
  } finally {
    const closed = new Promise<void>((resolve) => {
      if (input.closed) resolve();
      else input.once('close', resolve);
    });
    input.destroy();
    await closed;
  }
}

function withoutReturn(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}

async function cutHalfLine(file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  const piece = Buffer.alloc(Math.min(size, PIECE_BYTE_COUNT));
  for (let end = size; end > 0;) {
    const start = Math.max(0, end - piece.byteLength);
    const { bytesRead } = await file.read(piece, 0, end - start, start);
    const wholeByteCount = wholeLinesByteCount(piece.subarray(0, bytesRead));
    if (wholeByteCount > 0 || start === 0) {
      if (start + wholeByteCount < size) await file.truncate(start + wholeByteCount);
      return;
    }
    end = start;
  }
}

/** Returns the length of the whole lines. A process that was killed may have left half a line. */
export function wholeLinesByteCount(bytes: Uint8Array): number {
  return bytes.lastIndexOf(LINE_BREAK) + 1;
}
