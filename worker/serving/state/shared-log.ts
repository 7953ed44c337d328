/**
 * A log that all processes of a server, or several servers, apply in one order, each to a state of its own. Reading a
 * state waits for nobody. A line is acknowledged once it is durable and applied by the process that has appended it; others
 * apply it soon after. The log is a file (here), a stream of Redis, or a file of the parent process.
 */

import { writeSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Clock } from '../../../shared/base/clock.js';
import { type QianmoError, errorOf } from '../../../shared/base/errors.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import { openAppendedLines } from '../../../shared/events/event-log.js';
import { replaceByPieces } from '../../../shared/storage/file-bytes.js';
import { GroupedWrites } from './grouped-writes.js';

export interface LogState<Result> {
  /** Applies a line of a log or of a snapshot; lines and times alone decide the state. */
  apply(text: string, epochMs: number): Result;
  /** Lines that give the state to one that has none. Nothing is applied until the last one is read. */
  snapshot(): Iterable<string>;
}

export interface SharedLog<State extends LogState<Result>, Result> {
  readonly state: State;
  /**
   * Resolves with the result of applying the line here, when it is durable.
   *
   * @throws QianmoError if it is not known to be durable; it may be in the log.
   */
  append(text: string): Promise<Result>;
  /** The time by the clock of the log. */
  nowMs(): number;
  close(): Promise<void>;
}

/** A log is replaced by a snapshot when it has this and twice what the last snapshot had. */
export const LOG_BYTE_COUNT_MIN = 64 * 2 ** 20;
/** It may hold the key that event ids are signed with. */
const OWNER_ONLY = 0o600;

interface FileLogOptions {
  /** No other process may write it. */
  readonly path: string;
  readonly clock: Clock;
  /** Called before each write, which its failure prevents. */
  readonly assertOwned?: (() => Promise<void>) | undefined;
  readonly byteCountMin?: number;
}

interface Waiting<Result> {
  readonly text: string;
  readonly onApplied: (result: Result, epochMs: number) => void;
}

/** Lines that are appended while others are synced share the next sync. Half a line at the end was never acknowledged. */
export class FileLog<State extends LogState<Result>, Result> implements SharedLog<State, Result> {
  readonly state: State;
  readonly #options: FileLogOptions;
  readonly #writes: GroupedWrites<Waiting<Result>>;
  #file: FileHandle;
  #snapshotByteCount: number;
  #failure: QianmoError | null = null;

  private constructor(
    state: State,
    options: FileLogOptions,
    { file, snapshotByteCount }: { readonly file: FileHandle; readonly snapshotByteCount: number },
  ) {
    this.state = state;
    this.#options = options;
    this.#file = file;
    this.#snapshotByteCount = snapshotByteCount;
    this.#writes = new GroupedWrites((lines) => this.#write(lines));
  }

  /** @throws QianmoError `data` if a whole line is not what a server writes. */
  static async open<State extends LogState<Result>, Result>(
    state: State,
    given: FileLogOptions,
  ): Promise<FileLog<State, Result>> {
    const options = { ...given, path: resolve(given.path) };
    let snapshotByteCount = 0;
    const take = (line: string, where: string): void => {
      const [time = '', text = ''] = partsOf(line);
      try {
        state.apply(text, Number(time));
      } catch (cause) {
        throw damagedLog(where, cause);
      }
      // Lines of a snapshot have no time.
      if (time === '0') snapshotByteCount += line.length;
    };
    try {
      const file = await openAppendedLines(options.path, take);
      await file.chmod(OWNER_ONLY);
      return new FileLog(state, options, { file, snapshotByteCount });
    } catch (cause) {
      throw systemFailure(cause, 'opening the log of the state', options.path);
    }
  }

  /**
   * When the disk has failed, nothing more is acknowledged, and the log must be opened again.
   *
   * @param told called before the next line is applied.
   */
  append(text: string, told: (epochMs: number) => void = () => undefined): Promise<Result> {
    return new Promise((done, reject) => {
      const onApplied = (result: Result, epochMs: number): void => {
        told(epochMs);
        done(result);
      };
      this.#writes.add({ text, onApplied }, text.length).catch(reject);
    });
  }

  nowMs(): number {
    return this.#options.clock.epochMs();
  }

  async close(): Promise<void> {
    await this.#writes.settled();
    await this.#file.close();
  }

  async #write(lines: readonly Waiting<Result>[]): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const { path, assertOwned, byteCountMin = LOG_BYTE_COUNT_MIN } = this.#options;
    try {
      await assertOwned?.();
      const epochMs = this.nowMs();
      const bytes = Buffer.from(lines.map(({ text }) => `${epochMs} ${text}\n`).join(''));
      // Handing bytes to the system takes less time than starting another thread for it.
      for (let written = 0; written < bytes.length;)
        written += writeSync(this.#file.fd, bytes, written);
      await this.#file.datasync();
      for (const { text, onApplied } of lines) onApplied(this.state.apply(text, epochMs), epochMs);
      const { size } = await this.#file.stat();
      if (size > Math.max(byteCountMin, 2 * this.#snapshotByteCount)) await this.#replace();
    } catch (cause) {
      this.#failure = systemFailure(cause, 'writing the log of the state', path);
      throw this.#failure;
    }
  }

  async #replace(): Promise<void> {
    const { path } = this.#options;
    this.#snapshotByteCount = await replaceByPieces(path, linesOf(this.state), OWNER_ONLY);
    await this.#file.close();
    this.#file = await open(path, 'a+');
  }
}

function* linesOf(state: LogState<unknown>): Iterable<Uint8Array> {
  for (const text of state.snapshot()) yield Buffer.from(`0 ${text}\n`);
}

function partsOf(line: string): readonly string[] {
  const end = line.indexOf(' ');
  return [line.slice(0, end), line.slice(end + 1)];
}

function damagedLog(where: string, cause: unknown): QianmoError {
  return errorOf('data', 'the log of the state is damaged', {
    ...{ where, cause },
    expected: 'lines as a ranking server writes them',
    cure: 'restore the file from a copy, or move it away to begin without it',
  });
}
