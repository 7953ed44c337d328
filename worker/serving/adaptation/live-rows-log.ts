/**
 * The log of labelled rows on disk, and its lines by adgroup in memory. What is put is on disk before it is acknowledged;
 * puts that arrive during a sync share the next one. A log that has grown is replaced by one of what is left. Half a line
 * at its end was never acknowledged.
 */

import { writeSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { QianmoError } from '../../../shared/base/errors.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import { openAppendedLines } from '../../../shared/events/appended-lines.js';
import { replaceDurably } from '../../../shared/storage/file-bytes.js';
import {
  parsedRows,
  storedRowsOf,
  type LiveRowsStore,
  type PutOutcome,
  type StoredRows,
} from './live-rows.js';

/** Adgroups with rows; a bundle has room for as many live blocks. */
const LIVE_ADGROUPS_MAX = 65_536;
/** Rows of all adgroups, as text. */
const LIVE_ROWS_BYTE_COUNT_MAX = 256 * 2 ** 20;
/** A log is begun anew when it has this and twice what is left of it. */
const LOG_BYTE_COUNT_MIN = 16 * 2 ** 20;

interface Waiting {
  readonly rows: StoredRows;
  readonly onStored: () => void;
  readonly resolve: (outcome: PutOutcome) => void;
  readonly reject: (failure: unknown) => void;
}

interface OpenedLog {
  readonly file: FileHandle;
  readonly fileByteCount: number;
  readonly assertOwned: () => Promise<void>;
}

/**
 * @param assertOwned called before each write, which its failure prevents.
 * @throws QianmoError `data` if a whole line of the log is not what was written.
 */
export async function openLiveRows(
  givenPath: string,
  assertOwned: () => Promise<void> = () => Promise.resolve(),
): Promise<LiveRowsLog> {
  const path = resolve(givenPath);
  try {
    const texts = new Map<string, string>();
    const file = await openAppendedLines(path, (line, where) => {
      const { key, rows } = parsedRows(line, where);
      if (rows.length === 0) texts.delete(key);
      else texts.set(key, line);
    });
    const { size: fileByteCount } = await file.stat();
    return new LiveRowsLog(path, { file, fileByteCount, assertOwned }, texts);
  } catch (cause) {
    throw systemFailure(cause, 'opening the log of live rows', path);
  }
}

export class LiveRowsLog {
  readonly #path: string;
  readonly #assertOwned: () => Promise<void>;
  #file: FileHandle;
  #fileByteCount: number;
  /** A line by key: text takes less memory than rows. */
  readonly #texts: Map<string, string>;
  #byteCount: number;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | null = null;
  #failure: QianmoError | null = null;

  constructor(
    path: string,
    { file, fileByteCount, assertOwned }: OpenedLog,
    texts: Map<string, string>,
  ) {
    this.#path = path;
    this.#assertOwned = assertOwned;
    this.#file = file;
    this.#fileByteCount = fileByteCount;
    this.#texts = texts;
    this.#byteCount = [...texts.values()].reduce((sum, { length }) => sum + length, 0);
  }

  keys(): readonly string[] {
    return [...this.#texts.keys()];
  }

  /** Null if the adgroup has no rows. */
  textOf(key: string): string | null {
    return this.#texts.get(key) ?? null;
  }

  /**
   * @param onStored called when the rows are on disk, in the order of the log.
   * @throws QianmoError if they are not on disk. A disk that has failed needs the log opened again.
   */
  put(rows: StoredRows, onStored: () => void): Promise<PutOutcome> {
    if (!rows.isEmpty && this.#isFullFor(rows)) return Promise.resolve('full');
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) return reject(this.#failure);
      this.#waiting.push({ rows, onStored, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }

  #isFullFor({ key, text }: StoredRows): boolean {
    const before = this.#texts.get(key)?.length ?? 0;
    const waiting = this.#waiting.reduce((sum, { rows }) => sum + rows.text.length, 0);
    if (this.#byteCount + waiting + text.length - before > LIVE_ROWS_BYTE_COUNT_MAX) return true;
    return before === 0 && this.#texts.size + this.#waiting.length >= LIVE_ADGROUPS_MAX;
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = [...this.#waiting];
      try {
        await this.#assertOwned();
        await this.#beginAnewIfGrown();
        this.#append(Buffer.from(group.map(({ rows }) => `${rows.text}\n`).join('')));
        await this.#file.datasync();
      } catch (cause) {
        this.#failure = systemFailure(cause, 'writing the log of live rows', this.#path);
        for (const { reject } of this.#waiting) reject(this.#failure);
        this.#waiting = [];
        break;
      }
      this.#waiting.splice(0, group.length);
      for (const { rows, onStored, resolve } of group) {
        this.#keep(rows);
        onStored();
        resolve('stored');
      }
    }
    this.#writing = null;
  }

  /**
   * Hands bytes to the system, which takes some microseconds: fewer than another thread takes to begin, which then competes with
   * this one. Only the sync waits for the disk, and for that there is one.
   */
  #append(bytes: Buffer): void {
    for (let written = 0; written < bytes.length;)
      written += writeSync(this.#file.fd, bytes, written);
    this.#fileByteCount += bytes.length;
  }

  #keep({ key, isEmpty, text }: StoredRows): void {
    this.#byteCount -= this.#texts.get(key)?.length ?? 0;
    this.#texts.delete(key);
    if (isEmpty) return;
    this.#texts.set(key, text);
    this.#byteCount += text.length;
  }

  async #beginAnewIfGrown(): Promise<void> {
    if (this.#fileByteCount < LOG_BYTE_COUNT_MIN) return;
    if (this.#fileByteCount < 2 * this.#byteCount) return;
    const left = Buffer.from([...this.#texts.values()].map((text) => `${text}\n`).join(''));
    await replaceDurably(this.#path, left);
    await this.#file.close();
    this.#file = await open(this.#path, 'a+');
    this.#fileByteCount = left.length;
  }
}

/** The rows of a log that belongs to this process alone. */
export function liveRowsIn(log: LiveRowsLog): LiveRowsStore {
  let listen: Parameters<LiveRowsStore['follow']>[0] = () => Promise.resolve();
  return {
    follow: (listener) => {
      listen = listener;
    },
    keys: () => Promise.resolve(log.keys()),
    rowsOf: (key) => {
      const text = log.textOf(key);
      return Promise.resolve(text === null ? null : parsedRows(text, key));
    },
    put: async (rows, adapted) => {
      let served = Promise.resolve();
      const outcome = await log.put(storedRowsOf(rows), () => {
        served = listen(rows, adapted);
      });
      await served;
      return outcome;
    },
  };
}
