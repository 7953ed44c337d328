/**
 * The log of decisions and outcomes, in files of a folder that several processes may share. A record is with the system
 * before `append` resolves, so that it survives the end of the process; files are synced every second and when they are
 * complete, so that a power failure takes at most a second of them. A file that has grown is followed by another, and
 * the oldest are removed when the folder exceeds its bound.
 */

import { open, readdir, stat, truncate, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import {
  encodeExplorationLine,
  type Decision,
  type Outcome,
} from '../../../shared/exploration/decision-record.js';
import { makeFolderDurably, syncFolder } from '../../../shared/storage/file-bytes.js';

const FILE_BYTE_COUNT_MAX = 256 * 2 ** 20;
const FOLDER_BYTE_COUNT_MAX = 16 * 2 ** 30;
/** Lines that wait to be written; more are refused. */
const WAITING_BYTE_COUNT_MAX = 64 * 2 ** 20;
const SYNC_MS = 1_000;
const NAME = /^decisions-\d{15}-[0-9a-f]{16}-\d{6}\.ndjson$/;

interface DecisionLogOptions {
  readonly folder: string;
  readonly clock: Clock;
  /** Names the files of this process: 16 hexadecimal digits. */
  readonly nonce: string;
  readonly fileByteCountMax?: number;
  readonly folderByteCountMax?: number;
}

interface Waiting {
  readonly lines: string;
  readonly resolve: () => void;
  readonly reject: (failure: unknown) => void;
}

interface OpenedFile {
  readonly path: string;
  readonly handle: FileHandle;
  byteCount: number;
}

/** @throws QianmoError `environment` if the folder cannot be made. */
export async function openDecisionLog(options: DecisionLogOptions): Promise<DecisionLog> {
  try {
    await makeFolderDurably(options.folder);
  } catch (cause) {
    throw systemFailure(cause, 'opening the log of decisions', options.folder);
  }
  return new DecisionLog(options);
}

export class DecisionLog {
  readonly #options: DecisionLogOptions;
  #file: OpenedFile | null = null;
  #fileCount = 0;
  #waiting: Waiting[] = [];
  #waitingByteCount = 0;
  #writing: Promise<void> | null = null;
  #syncing: Promise<void> | null = null;
  readonly #closing = new AbortController();

  constructor(options: DecisionLogOptions) {
    this.#options = options;
  }

  /** @throws QianmoError if they are not in the log; the next ones are tried again, in another file. */
  append(records: readonly (Decision | Outcome)[]): Promise<void> {
    if (records.length === 0) return Promise.resolve();
    const lines = records.map(encodeExplorationLine).join('');
    return new Promise((resolve, reject) => {
      if (this.#waitingByteCount + lines.length > WAITING_BYTE_COUNT_MAX) return reject(tooSlow());
      this.#waitingByteCount += lines.length;
      this.#waiting.push({ lines, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
  }

  async close(): Promise<void> {
    await this.#writing;
    this.#closing.abort();
    await this.#syncing;
    await this.#complete();
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      this.#waitingByteCount = 0;
      try {
        await this.#write(Buffer.from(group.map(({ lines }) => lines).join('')));
        for (const { resolve } of group) resolve();
      } catch (cause) {
        const failure = systemFailure(cause, 'writing the log of decisions', this.#options.folder);
        for (const { reject } of group) reject(failure);
      }
    }
    this.#writing = null;
  }

  async #write(bytes: Buffer): Promise<void> {
    const { fileByteCountMax = FILE_BYTE_COUNT_MAX } = this.#options;
    let file = this.#file;
    const isFull = file !== null && file.byteCount + bytes.byteLength > fileByteCountMax;
    if (file !== null && (isFull || !(await isThere(file)))) {
      await this.#complete();
      file = null;
    }
    file ??= await this.#begin();
    try {
      await file.handle.appendFile(bytes);
      file.byteCount += bytes.byteLength;
    } catch (error) {
      // Half a line is cut off, and this file is not written again.
      await truncate(file.path, file.byteCount).catch(() => undefined);
      await this.#complete().catch(() => undefined);
      throw error;
    }
    this.#syncing ??= this.#syncLater();
  }

  async #begin(): Promise<OpenedFile> {
    const { folder, clock, nonce } = this.#options;
    await this.#makeRoom();
    this.#fileCount += 1;
    const time = String(Math.floor(clock.epochMs())).padStart(15, '0');
    const number = String(this.#fileCount).padStart(6, '0');
    const path = join(folder, `decisions-${time}-${nonce}-${number}.ndjson`);
    const file = { path, handle: await open(path, 'ax'), byteCount: 0 };
    this.#file = file;
    await syncFolder(folder);
    return file;
  }

  async #complete(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    if (file === null) return;
    try {
      await file.handle.datasync();
    } finally {
      await file.handle.close();
    }
  }

  async #syncLater(): Promise<void> {
    await this.#options.clock.sleep(SYNC_MS, this.#closing.signal);
    this.#syncing = null;
    // A file that was completed meanwhile is synced. A disk that fails is met by the next write.
    await this.#file?.handle.datasync().catch(() => undefined);
  }

  /** Removes the oldest files until there is room for another one. */
  async #makeRoom(): Promise<void> {
    const { folder, fileByteCountMax = FILE_BYTE_COUNT_MAX } = this.#options;
    const { folderByteCountMax = FOLDER_BYTE_COUNT_MAX } = this.#options;
    const names = (await readdir(folder)).filter((name) => NAME.test(name)).sort();
    const sizes = new Map<string, number>();
    for (const name of names)
      sizes.set(name, (await stat(join(folder, name)).catch(() => ({ size: 0 }))).size);
    let byteCount = [...sizes.values()].reduce((sum, size) => sum + size, 0);
    for (const [name, size] of sizes) {
      if (byteCount + fileByteCountMax <= folderByteCountMax) return;
      await unlink(join(folder, name)).catch(() => undefined);
      byteCount -= size;
    }
  }
}

/** Whether the file has not been removed, as by another process that makes room. */
async function isThere({ path, handle }: OpenedFile): Promise<boolean> {
  const [named, own] = await Promise.all([stat(path).catch(() => null), handle.stat()]);
  return named?.ino === own.ino;
}

function tooSlow(): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: 'too many decisions wait to be logged',
    expected: `at most ${WAITING_BYTE_COUNT_MAX} bytes`,
    cure: 'put the folder of the state on a faster disk, or start more servers',
  });
}
