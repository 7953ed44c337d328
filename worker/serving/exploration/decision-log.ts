/**
 * The log of decisions and outcomes, in files of a folder. A record is with the system before `append` resolves, so that it
 * survives the end of the process; files are synced every second and when they are complete, so that a power failure takes at
 * most a second of them. A file that has grown is followed by another, and the oldest are removed when the folder exceeds its
 * bound.
 */

import { open, readdir, stat, truncate, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../shared/base/clock.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import {
  encodeExplorationLine,
  type Decision,
  type Outcome,
} from '../../../shared/config/decision-record.js';
import { makeFolderDurably, syncFolder } from '../../../shared/storage/file-bytes.js';
import { GroupedWrites } from '../state/grouped-writes.js';

const FILE_BYTE_COUNT_MAX = 256 * 2 ** 20;
const FOLDER_BYTE_COUNT_MAX = 16 * 2 ** 30;
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
  readonly #options: Required<DecisionLogOptions>;
  readonly #writes = new GroupedWrites<string>((lines) => this.#write(Buffer.from(lines.join(''))));
  readonly #closing = new AbortController();
  #file: OpenedFile | null = null;
  #fileCount = 0;
  #syncing: Promise<void> | null = null;

  constructor(options: DecisionLogOptions) {
    const bounds = {
      fileByteCountMax: FILE_BYTE_COUNT_MAX,
      folderByteCountMax: FOLDER_BYTE_COUNT_MAX,
    };
    this.#options = { ...bounds, ...options };
  }

  /** @throws QianmoError if they are not in the log; the next ones are tried again, in another file. */
  async append(records: readonly (Decision | Outcome)[]): Promise<void> {
    if (records.length === 0) return;
    const lines = records.map(encodeExplorationLine).join('');
    await this.#writes.add(lines, lines.length);
  }

  async close(): Promise<void> {
    await this.#writes.settled();
    this.#closing.abort();
    await this.#syncing;
    await this.#complete();
  }

  async #write(bytes: Buffer): Promise<void> {
    try {
      if (this.#file !== null && (await this.#isOver(this.#file, bytes))) await this.#complete();
      const file = this.#file ?? (await this.#begin());
      try {
        await file.handle.appendFile(bytes);
        file.byteCount += bytes.byteLength;
      } catch (error) {
        // Half a line is cut off, and this file is not written again.
        await truncate(file.path, file.byteCount).catch(() => undefined);
        await this.#complete().catch(() => undefined);
        throw error;
      }
    } catch (cause) {
      throw systemFailure(cause, 'writing the log of decisions', this.#options.folder);
    }
    this.#syncing ??= this.#syncLater();
  }

  /** Returns whether the file is full, or somebody has removed it. */
  async #isOver({ path, handle, byteCount }: OpenedFile, bytes: Buffer): Promise<boolean> {
    if (byteCount + bytes.byteLength > this.#options.fileByteCountMax) return true;
    const [named, own] = await Promise.all([stat(path).catch(() => null), handle.stat()]);
    return named?.ino !== own.ino;
  }

  async #begin(): Promise<OpenedFile> {
    const { folder, clock, nonce } = this.#options;
    await this.#makeRoom();
    this.#fileCount += 1;
    const time = String(Math.floor(clock.epochMs())).padStart(15, '0');
    const number = String(this.#fileCount).padStart(6, '0');
    const path = join(folder, `decisions-${time}-${nonce}-${number}.ndjson`);
    this.#file = { path, handle: await open(path, 'ax'), byteCount: 0 };
    await syncFolder(folder);
    return this.#file;
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
    const { folder, fileByteCountMax, folderByteCountMax } = this.#options;
    const paths = (await readdir(folder)).filter((name) => NAME.test(name)).sort();
    const sizes = await Promise.all(
      paths.map(async (name) => (await stat(join(folder, name))).size),
    );
    let left = sizes.reduce((sum, size) => sum + size, fileByteCountMax);
    for (const [place, name] of paths.entries()) {
      if (left <= folderByteCountMax) return;
      await unlink(join(folder, name));
      left -= sizes[place] ?? 0;
    }
  }
}
