/**
 * The log of rankings and feedback. Lines go to a file of the spool, a folder of this process; a file that is large or old is
 * compressed and delivered to an object store under its own name, and then removed. A line is with the system before `append`
 * resolves, so that it survives the end of the process; files are synced every second and when they are complete. What a killed
 * process has left is delivered by the next one. The oldest objects are removed when the store exceeds its bound.
 */

import { open, readdir, readFile, rm, stat, truncate, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import type { Clock } from '../../../shared/base/clock.js';
import { type QianmoError, errorOf } from '../../../shared/base/errors.js';
import { systemCodeOf, systemFailure } from '../../../shared/base/system-errors.js';
import { ROW_FILE_KEY, ROW_FILE_PREFIX } from '../../../shared/config/row-record.js';
import { warningEvent, type RunEventSink } from '../../../shared/events/run-events.js';
import { makeFolderDurably, syncFolder } from '../../../shared/storage/file-bytes.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { GroupedWrites } from '../state/grouped-writes.js';

const FILE_BYTE_COUNT_MAX = 32 * 2 ** 20;
/** More waits for a store that is away; then nothing is logged. */
const SPOOL_BYTE_COUNT_MAX = 4 * 2 ** 30;
const SYNC_MS = 1_000;
const RETRY_MS = 5_000;
const COMPRESSED = '.gz';
const LINE_END = 0x0a;

export interface RowsPlace {
  /** Takes the files. Any number of processes may share it. */
  readonly store: ObjectStore;
  /** Holds files until they are delivered; no other process may use it. */
  readonly spool: string;
  /** The age at which a file is delivered. */
  readonly deliverySeconds: number;
  /** Bytes of all objects in the store. */
  readonly storeByteCountMax: number;
}

interface RowLogOptions extends RowsPlace {
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
  /** Names the files of this process: 16 hexadecimal digits. */
  readonly nonce: string;
  /** The first line of each file. */
  readonly firstLine: string;
  readonly fileByteCountMax?: number;
  readonly spoolByteCountMax?: number;
}

interface SpooledFile {
  readonly name: string;
  byteCount: number;
  /** Null for a file of an earlier process. */
  readonly handle: FileHandle | null;
}

interface OpenedFile extends SpooledFile {
  readonly handle: FileHandle;
  readonly beganMs: number;
  /** True once its name survives a power failure. */
  isNamed: boolean;
}

/** @throws QianmoError `environment` if the spool cannot be made. */
export async function openRowLog(options: RowLogOptions): Promise<RowLog> {
  try {
    await makeFolderDurably(options.spool);
    const names = (await readdir(options.spool)).filter((name) =>
      ROW_FILE_KEY.test(name + COMPRESSED),
    );
    const left: SpooledFile[] = [];
    for (const name of names.sort())
      left.push({ name, byteCount: (await stat(join(options.spool, name))).size, handle: null });
    return new RowLog(options, left);
  } catch (cause) {
    throw systemFailure(cause, 'opening the log of rows', options.spool);
  }
}

export class RowLog {
  readonly #options: Required<RowLogOptions>;
  readonly #writes = new GroupedWrites<string>((lines) => this.#write(Buffer.from(lines.join(''))));
  readonly #closing = new AbortController();
  /** Complete files, the oldest first. */
  readonly #undelivered: SpooledFile[];
  #spoolByteCount: number;
  #file: OpenedFile | null = null;
  #fileCount = 0;
  #syncing: Promise<void> | null = null;
  #delivering: Promise<void> | null = null;
  /** True while a write takes longer than somebody would wait. */
  #isSlow = false;

  /** @param left files of an earlier process. */
  constructor(options: RowLogOptions, left: readonly SpooledFile[]) {
    const bounds = {
      fileByteCountMax: FILE_BYTE_COUNT_MAX,
      spoolByteCountMax: SPOOL_BYTE_COUNT_MAX,
    };
    this.#options = { ...bounds, ...options };
    this.#undelivered = [...left];
    this.#spoolByteCount = left.reduce((sum, { byteCount }) => sum + byteCount, 0);
    this.#deliver();
  }

  /**
   * @param patienceMs the longest wait; none while earlier lines have taken longer. The line may be written later.
   * @throws QianmoError if it is not known to be in the log; the next ones are tried again, in another file.
   */
  async append(line: string, patienceMs = Infinity): Promise<void> {
    if (this.#isSlow && patienceMs < Infinity) throw this.#tooSlow();
    const written = this.#writes.add(line, line.length);
    if (patienceMs === Infinity) return written;
    const done = new AbortController();
    const late = this.#options.clock.sleep(patienceMs, done.signal).then(() => {
      if (done.signal.aborted) return;
      this.#isSlow = true;
      const end = (): boolean => (this.#isSlow = false);
      written.then(end, end);
      throw this.#tooSlow();
    });
    try {
      await Promise.race([written, late]);
    } finally {
      done.abort();
    }
  }

  /** Delivers what there is. Files that the store does not take stay for the next process. */
  async close(): Promise<void> {
    await this.#writes.settled();
    this.#closing.abort();
    await this.#syncing;
    this.#complete();
    await this.#delivering;
    this.#deliver();
    await this.#delivering;
  }

  async #write(bytes: Buffer): Promise<void> {
    const { spool, spoolByteCountMax } = this.#options;
    try {
      if (this.#file !== null && (await this.#isOver(this.#file, bytes))) this.#complete();
      if (bytes.byteLength === 0) return;
      if (this.#spoolByteCount + bytes.byteLength > spoolByteCountMax) throw this.#full();
      const file = this.#file ?? (await this.#begin());
      await this.#writeTo(file, bytes);
    } catch (cause) {
      throw systemFailure(cause, 'writing the log of rows', spool);
    }
    this.#syncing ??= this.#syncLater();
  }

  async #writeTo(file: OpenedFile, bytes: Buffer): Promise<void> {
    try {
      await file.handle.appendFile(bytes);
      file.byteCount += bytes.byteLength;
      this.#spoolByteCount += bytes.byteLength;
    } catch (error) {
      // Half a line is cut off, and this file is not written again.
      await truncate(this.#pathOf(file.name), file.byteCount).catch(() => undefined);
      this.#complete();
      throw error;
    }
  }

  /** Returns whether the file is full or old, or somebody has removed it. */
  async #isOver({ handle, byteCount, beganMs }: OpenedFile, bytes: Buffer): Promise<boolean> {
    const { clock, deliverySeconds, fileByteCountMax } = this.#options;
    if (byteCount + bytes.byteLength > fileByteCountMax) return true;
    if (clock.monotonicMs() - beganMs >= 1_000 * deliverySeconds) return true;
    return (await handle.stat()).nlink === 0;
  }

  async #begin(): Promise<OpenedFile> {
    const { clock, nonce, firstLine } = this.#options;
    this.#fileCount += 1;
    const time = String(Math.floor(clock.epochMs())).padStart(15, '0');
    const number = String(this.#fileCount).padStart(6, '0');
    const name = `${ROW_FILE_PREFIX}${time}-${nonce}-${number}.ndjson`;
    const handle = await open(this.#pathOf(name), 'ax');
    this.#file = { name, handle, beganMs: clock.monotonicMs(), byteCount: 0, isNamed: false };
    await this.#writeTo(this.#file, Buffer.from(firstLine));
    return this.#file;
  }

  /** Waits for nothing. */
  #complete(): void {
    if (this.#file === null) return;
    void this.#sync(this.#file);
    this.#undelivered.push(this.#file);
    this.#file = null;
    this.#deliver();
  }

  /** A disk that fails is met by the next write. */
  async #sync(file: OpenedFile): Promise<void> {
    await file.handle.datasync().catch(() => undefined);
    if (!file.isNamed) await syncFolder(this.#options.spool).catch(() => undefined);
    file.isNamed = true;
  }

  async #syncLater(): Promise<void> {
    const { clock, deliverySeconds } = this.#options;
    await clock.sleep(SYNC_MS, this.#closing.signal);
    const file = this.#file;
    if (file !== null) await this.#sync(file);
    this.#syncing = null;
    if (file === null || this.#closing.signal.aborted) return;
    if (clock.monotonicMs() - file.beganMs < 1_000 * deliverySeconds)
      this.#syncing = this.#syncLater();
    // Nothing is written, and what is old is completed.
    else await this.#writes.add('', 0).catch(() => undefined);
  }

  #deliver(): void {
    this.#delivering ??= this.#deliverAll().finally(() => (this.#delivering = null));
  }

  async #deliverAll(): Promise<void> {
    const { clock, onEvent } = this.#options;
    const { signal } = this.#closing;
    let isTold = false;
    for (let file = this.#undelivered[0]; file !== undefined; file = this.#undelivered[0])
      try {
        await this.#deliverFile(file);
        this.#undelivered.shift();
        this.#spoolByteCount -= file.byteCount;
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        if (!isTold) onEvent(warningEvent('rows-undelivered', `rows wait in the spool: ${reason}`));
        isTold = true;
        if (signal.aborted) return;
        await clock.sleep(RETRY_MS, signal);
      }
  }

  /** Puts whole lines, under one name however often it is tried. */
  async #deliverFile({ name, handle }: SpooledFile): Promise<void> {
    const { store } = this.#options;
    await handle?.close();
    const path = this.#pathOf(name);
    const bytes = await readFile(path).catch((cause: unknown) => {
      if (systemCodeOf(cause) === 'ENOENT') return Buffer.alloc(0);
      throw systemFailure(cause, 'reading the log of rows', path);
    });
    const end = bytes.lastIndexOf(LINE_END) + 1;
    if (end > 0) {
      // Doubles in base64 hardly become smaller at higher levels, which take half as long again.
      const level = constants.Z_BEST_SPEED;
      const compressed = await promisify(gzip)(bytes.subarray(0, end), { level });
      await store.put(name + COMPRESSED, compressed, { kind: 'always' });
    }
    await rm(path, { force: true });
    // What could not be removed is when the next file is delivered.
    await this.#removeOldest().catch(() => undefined);
  }

  async #removeOldest(): Promise<void> {
    const { store, storeByteCountMax } = this.#options;
    const listed = await store.listWithTimes(ROW_FILE_PREFIX);
    const files = listed.filter(({ key }) => ROW_FILE_KEY.test(key));
    let left = files.reduce((sum, { byteCount }) => sum + byteCount, 0);
    for (const { key, byteCount } of files) {
      if (left <= storeByteCountMax) return;
      await store.delete(key);
      left -= byteCount;
    }
  }

  #pathOf(name: string): string {
    return join(this.#options.spool, name);
  }

  #full(): QianmoError {
    const { spool, store, spoolByteCountMax } = this.#options;
    return errorOf('environment', 'too many rows wait for their store, so no more are logged', {
      where: spool,
      expected: `at most ${spoolByteCountMax} bytes`,
      cure: `look why ${store.address} takes no files`,
    });
  }

  #tooSlow(): QianmoError {
    return errorOf('environment', 'the disk takes too long to log a ranking', {
      where: this.#options.spool,
      cure: 'look at the disk of that folder; rankings go on without being logged',
    });
  }
}
