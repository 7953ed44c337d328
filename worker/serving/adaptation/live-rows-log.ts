/**
 * The labelled rows of adgroups that adapt while serving, by key, in memory and in a log on disk. What is put is on disk
 * before it is acknowledged; puts that arrive during a sync share the next one. A log that has grown is replaced by one
 * of what is left. Half a line at its end was never acknowledged.
 */

import { createReadStream } from 'node:fs';
import { open, rename, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import { cutHalfLine } from '../../../shared/events/log-file.js';
import {
  makeFolderDurably,
  partOf,
  syncFolder,
  writeDurably,
} from '../../../shared/storage/file-bytes.js';

/** Rows of all adgroups, as text. */
const LIVE_ROWS_BYTE_COUNT_MAX = 256 * 2 ** 20;
/** A log is begun anew when it has this and twice what is left of it. */
const LOG_BYTE_COUNT_MIN = 16 * 2 ** 20;

const LiveRowsSchema = z.strictObject({
  /** The key of the adgroup. */
  key: z.string(),
  /** Null where the bundle says. */
  segment: z.string().nullable(),
  /** None removes what the adgroup had. */
  rows: z.array(
    z.strictObject({
      features: z.record(z.string(), z.unknown()),
      label: z.number(),
      impressions: z.number(),
    }),
  ),
});
/** Raw rows, which every bundle encodes anew. */
export type LiveRows = z.infer<typeof LiveRowsSchema>;

interface Waiting {
  readonly line: string;
  readonly resolve: () => void;
  readonly reject: (failure: unknown) => void;
}

/** @throws QianmoError `data` if a whole line of the log is not what was written. */
export async function openLiveRows(givenPath: string): Promise<LiveRowsLog> {
  const path = resolve(givenPath);
  try {
    await makeFolderDurably(dirname(path));
    const file = await open(path, 'a+');
    await cutHalfLine(file);
    await syncFolder(dirname(path));
    const texts = new Map<string, string>();
    let number = 0;
    for await (const line of createInterface({ input: createReadStream(path) })) {
      number += 1;
      const { key, rows } = parsed(line, `${path}:${number}`);
      if (rows.length === 0) texts.delete(key);
      else texts.set(key, line);
    }
    return new LiveRowsLog(path, file, texts);
  } catch (cause) {
    throw systemFailure(cause, 'opening the log of live rows', path);
  }
}

export class LiveRowsLog {
  readonly #path: string;
  #file: FileHandle;
  /** A line by key: text takes less memory than rows. */
  readonly #texts: Map<string, string>;
  #byteCount: number;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | null = null;
  #failure: QianmoError | null = null;

  constructor(path: string, file: FileHandle, texts: Map<string, string>) {
    this.#path = path;
    this.#file = file;
    this.#texts = texts;
    this.#byteCount = [...texts.values()].reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether there is no room for more. */
  get isFull(): boolean {
    return this.#byteCount >= LIVE_ROWS_BYTE_COUNT_MAX;
  }

  keys(): readonly string[] {
    return [...this.#texts.keys()];
  }

  /** Null if the adgroup has none any more. */
  rowsOf(key: string): LiveRows | null {
    const text = this.#texts.get(key);
    return text === undefined ? null : parsed(text, this.#path);
  }

  /** @throws QianmoError if they are not on disk. A disk that has failed needs the log opened again. */
  async put(rows: LiveRows): Promise<void> {
    const line = JSON.stringify(rows);
    await new Promise<void>((resolve, reject) => {
      if (this.#failure !== null) return reject(this.#failure);
      this.#waiting.push({ line, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
    this.#byteCount -= this.#texts.get(rows.key)?.length ?? 0;
    this.#texts.delete(rows.key);
    if (rows.rows.length === 0) return;
    this.#texts.set(rows.key, line);
    this.#byteCount += line.length;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        await this.#beginAnewIfGrown();
        await this.#file.appendFile(group.map(({ line }) => `${line}\n`).join(''));
        await this.#file.datasync();
        for (const { resolve } of group) resolve();
      } catch (cause) {
        this.#failure = systemFailure(cause, 'writing the log of live rows', this.#path);
        for (const { reject } of [...group, ...this.#waiting]) reject(this.#failure);
        this.#waiting = [];
      }
    }
    this.#writing = null;
  }

  async #beginAnewIfGrown(): Promise<void> {
    const { size } = await this.#file.stat();
    if (size < LOG_BYTE_COUNT_MIN || size < 2 * this.#byteCount) return;
    const part = partOf(this.#path);
    await writeDurably(
      part,
      Buffer.from([...this.#texts.values()].map((text) => `${text}\n`).join('')),
    );
    await rename(part, this.#path);
    await syncFolder(dirname(this.#path));
    await this.#file.close();
    this.#file = await open(this.#path, 'a+');
  }
}

function parsed(line: string, where: string): LiveRows {
  try {
    return LiveRowsSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw new QianmoError({
      kind: 'data',
      what: 'the log of live rows is damaged',
      where,
      expected: 'the rows of an adgroup, as a ranking server writes them',
      cure: 'restore the file from a copy, or move it away to serve the blocks of the bundle',
      cause,
    });
  }
}
