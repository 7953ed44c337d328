/**
 * Scalars in TensorBoard's event files: a folder and one file for each run of a call. TensorBoard stops reading
 * a file of a folder once a newer one grows, so no folder has two that are open.
 */

import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { at } from '../../shared/base/arrays.js';
import { freshNonce } from '../../shared/base/nonce.js';
import type { StampedEvent } from '../../shared/events/run-events.js';
import { thisProcess } from '../../shared/storage/process-identity.js';
import { scalarsOf, type Scalar } from './scalars.js';
import type { EventTracker, TrackedRun } from './tracker.js';
import { crc32c, maskedCrc } from '../../shared/formats/crc32c.js';
import { messageOf, type ProtoWriter } from '../../shared/formats/protobuf.js';

interface OpenFile {
  readonly handle: FileHandle;
  /** Bytes up to the last whole record: what comes after them was not completely written. */
  byteCount: number;
}

interface EventRecord {
  readonly event: StampedEvent;
  readonly bytes: Uint8Array;
}

export class TensorBoardTracker implements EventTracker {
  readonly name = 'TensorBoard';
  readonly address: string;
  /** Written as they come, so that a process that is killed leaves what it has told. */
  readonly intervalMs = 0;
  readonly #tracked: TrackedRun;
  readonly #files = new Map<string, OpenFile>();
  /** The events of a take that failed which are in a file: they are given again. */
  #written = new WeakSet<StampedEvent>();

  /** @param address a folder, which is made when the first scalar comes. */
  constructor(address: string, tracked: TrackedRun) {
    this.address = address;
    this.#tracked = tracked;
  }

  async take(events: readonly StampedEvent[]): Promise<void> {
    const recordsByRun = new Map<string, EventRecord[]>();
    for (const event of events) {
      const [first, ...others] = scalarsOf(event);
      if (first === undefined || this.#written.has(event)) continue;
      const name = this.#folderOf(event);
      const records = recordsByRun.get(name) ?? [];
      records.push({ event, bytes: scalarRecord([first, ...others]) });
      recordsByRun.set(name, records);
    }
    for (const [name, records] of recordsByRun) {
      const file = this.#files.get(name) ?? (await this.#opened(name, at(records, 0).event));
      this.#files.set(name, file);
      await append(
        file,
        records.map(({ bytes }) => bytes),
      );
      for (const { event } of records) this.#written.add(event);
    }
    this.#written = new WeakSet();
  }

  async end(): Promise<void> {
    for (const { handle } of this.#files.values()) await handle.close();
  }

  /** The global arm of an evaluation is a run of its own. */
  #folderOf({ runId }: StampedEvent): string {
    const { call, run } = this.#tracked;
    const name = call.replace(/ /g, '-');
    return runId === undefined || runId === run ? name : `${name}-${runId}`;
  }

  async #opened(name: string, { epochMs, outerStep = 0 }: StampedEvent): Promise<OpenFile> {
    const folder = join(this.address, name);
    await mkdir(folder, { recursive: true });
    const { host, pid } = thisProcess();
    // TensorBoard reads the files of a folder in the order of their names.
    const time = (epochMs / 1_000).toFixed(3).padStart(14, '0');
    const path = join(folder, `events.out.tfevents.${time}.${host}.${pid}.${freshNonce()}`);
    const file = { handle: await open(path, 'wx'), byteCount: 0 };
    try {
      await append(file, [openingRecords(epochMs, outerStep)]);
    } catch (error) {
      // The next attempt makes another file, and a folder has one.
      await file.handle.close();
      await rm(path, { force: true });
      throw error;
    }
    return file;
  }
}

async function append(file: OpenFile, pieces: readonly Uint8Array[]): Promise<void> {
  const bytes = Buffer.concat(pieces);
  for (let writtenCount = 0; writtenCount < bytes.length;) {
    const place = file.byteCount + writtenCount;
    const { bytesWritten } = await file.handle.write(bytes, writtenCount, null, place);
    writtenCount += bytesWritten;
  }
  file.byteCount += bytes.length;
}

/*
 * The bytes of an event file: records of one `Event` each (tensorflow/core/util/event.proto). A record is the
 * length of its data (8 bytes), the masked checksum of that length, the data, and their masked checksum.
 */

const LENGTH_BYTE_COUNT = 8;
const CRC_BYTE_COUNT = 4;

/** Fields of `Event`. */
const WALL_TIME = 1;
const STEP = 2;
const FILE_VERSION = 3;
const SUMMARY = 5;
const SESSION_LOG = 7;
/** `SessionLog.status`, and its value START. */
const STATUS = 1;
const START = 1;
/** Fields of `Summary` and `Summary.Value`. */
const VALUE = 1;
const TAG = 1;
const SIMPLE_VALUE = 2;

export function recordOf(data: Uint8Array): Uint8Array {
  const record = Buffer.alloc(LENGTH_BYTE_COUNT + CRC_BYTE_COUNT + data.length + CRC_BYTE_COUNT);
  record.writeBigUInt64LE(BigInt(data.length));
  const length = record.subarray(0, LENGTH_BYTE_COUNT);
  record.writeUInt32LE(maskedCrc(crc32c(length)), LENGTH_BYTE_COUNT);
  record.set(data, LENGTH_BYTE_COUNT + CRC_BYTE_COUNT);
  record.writeUInt32LE(maskedCrc(crc32c(data)), record.length - CRC_BYTE_COUNT);
  return record;
}

/**
 * The first records of a file. TensorBoard drops what earlier files have from `outerStep` on, because a
 * resumed run computes it again.
 */
export function openingRecords(epochMs: number, outerStep: number): Uint8Array {
  return Buffer.concat([
    eventRecord(epochMs, 0, (event) => event.writeString(FILE_VERSION, 'brain.Event:2')),
    eventRecord(epochMs, outerStep, (event) =>
      event.writeMessage(SESSION_LOG, START, (status, log) => log.writeInt64(STATUS, status)),
    ),
  ]);
}

/** @param scalars of one outer step and time. */
export function scalarRecord(scalars: readonly [Scalar, ...Scalar[]]): Uint8Array {
  const [{ epochMs, outerStep }] = scalars;
  const writeScalar = ({ name, value }: Scalar, field: ProtoWriter): void => {
    field.writeString(TAG, name);
    field.writeFloat(SIMPLE_VALUE, value);
  };
  return eventRecord(epochMs, outerStep, (event) =>
    event.writeMessage(SUMMARY, scalars, (each, summary) => {
      for (const scalar of each) summary.writeMessage(VALUE, scalar, writeScalar);
    }),
  );
}

function eventRecord(
  epochMs: number,
  outerStep: number,
  write: (event: ProtoWriter) => void,
): Uint8Array {
  return recordOf(
    messageOf((event) => {
      event.writeDouble(WALL_TIME, epochMs / 1_000);
      event.writeInt64(STEP, outerStep);
      write(event);
    }),
  );
}
