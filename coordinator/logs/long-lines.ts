/**
 * Refuses lines that are longer than a buffer of DuckDB. It rejects those that begin and end in neighbouring buffers, and
 * reads no other ones, without a word, so that rows would be missing silently.
 */

import { open, type FileHandle } from 'node:fs/promises';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import type { LogFile } from './log-files.js';

/** The buffer in which DuckDB reads a log. A line with its end must be shorter than it. */
export const LINE_BYTE_COUNT_MAX = 8 * 2 ** 20;
const BLOCK_BYTE_COUNT = LINE_BYTE_COUNT_MAX / 2;
const WINDOW_BYTE_COUNT = 64 * 1024;
const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** @param line from 1; null if it is not known. */
export function tooLongLine(
  { name, format }: Pick<LogFile, 'name'> & Partial<Pick<LogFile, 'format'>>,
  line: number | null,
  byteCount: number | null,
): QianmoError {
  const shorter = 'leave out texts that the config does not name, or write the log as Parquet';
  return errorOf('data', 'a line of a log is too long', {
    where: line === null ? name : `${name}, line ${line}`,
    expected: `lines shorter than ${LINE_BYTE_COUNT_MAX / 2 ** 20} MiB`,
    found: `a line of ${byteCount === null ? 'more' : `${(byteCount / 2 ** 20).toFixed(2)} MiB`}`,
    cure:
      format === 'jsonl'
        ? `write one row a line (jq -c '.[]' makes lines of an array), ${shorter}`
        : shorter,
  });
}

/**
 * Looks for the end of a line after each block of half a buffer, and so reads little of the file. Compressed files pass:
 * lines of gzip are measured where they are decompressed, and those of Zstandard by DuckDB while they are read.
 *
 * @throws QianmoError of kind `data`
 */
export async function requireShortLines(file: LogFile): Promise<void> {
  if (file.format === 'parquet' || /\.(gz|zstd?)$/i.test(file.path)) return;
  const found = await longLineIn(file.path).catch((cause: unknown) => {
    throw systemFailure(cause, 'reading a log file', file.name);
  });
  if (found !== null) throw tooLongLine(file, found.line, found.byteCount);
}

interface LongLine {
  readonly line: number;
  readonly byteCount: number;
}

async function longLineIn(path: string): Promise<LongLine | null> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    let block = 0;
    while (block < size) {
      const end = await lineEndFrom(handle, block);
      const start = end - block > BLOCK_BYTE_COUNT ? await lineStartBefore(handle, block) : block;
      if (end - start >= LINE_BYTE_COUNT_MAX)
        return { line: (await lineEndCount(handle, start)) + 1, byteCount: end - start };
      block = Math.max(
        block + BLOCK_BYTE_COUNT,
        Math.floor(end / BLOCK_BYTE_COUNT) * BLOCK_BYTE_COUNT,
      );
    }
    return null;
  } finally {
    await handle.close();
  }
}

/** The place after the first end of a line from here on, or the end of the file. */
async function lineEndFrom(handle: FileHandle, start: number): Promise<number> {
  for (let from = start; ; from += WINDOW_BYTE_COUNT) {
    const bytes = await windowAt(handle, from, WINDOW_BYTE_COUNT);
    const end = lineEndIn(bytes);
    if (end >= 0) return from + end + 1;
    if (bytes.length < WINDOW_BYTE_COUNT) return from + bytes.length;
  }
}

/** The place after the last end of a line before this one, or 0. */
async function lineStartBefore(handle: FileHandle, place: number): Promise<number> {
  for (let to = place; to > 0; to -= WINDOW_BYTE_COUNT) {
    const from = Math.max(0, to - WINDOW_BYTE_COUNT);
    const bytes = await windowAt(handle, from, to - from);
    const end = lastLineEndIn(bytes);
    if (end >= 0) return from + end + 1;
  }
  return 0;
}

async function lineEndCount(handle: FileHandle, end: number): Promise<number> {
  let count = 0;
  for (let from = 0; from < end; from += WINDOW_BYTE_COUNT) {
    const bytes = await windowAt(handle, from, Math.min(WINDOW_BYTE_COUNT, end - from));
    for (const byte of bytes) if (byte === LINE_FEED) count += 1;
  }
  return count;
}

async function windowAt(handle: FileHandle, from: number, byteCount: number): Promise<Buffer> {
  const { buffer, bytesRead } = await handle.read(
    Buffer.allocUnsafe(byteCount),
    0,
    byteCount,
    from,
  );
  return buffer.subarray(0, bytesRead);
}

function lineEndIn(bytes: Buffer): number {
  const feed = bytes.indexOf(LINE_FEED);
  const before = feed < 0 ? bytes : bytes.subarray(0, feed);
  const carriageReturn = before.indexOf(CARRIAGE_RETURN);
  return carriageReturn < 0 ? feed : carriageReturn;
}

function lastLineEndIn(bytes: Buffer): number {
  return Math.max(bytes.lastIndexOf(LINE_FEED), bytes.lastIndexOf(CARRIAGE_RETURN));
}

/** Measures lines of a text that comes in parts, each shorter than the longest line. */
export class LineLengths {
  private openByteCount = 0;
  private longest = 0;

  add(bytes: Buffer): void {
    const end = lineEndIn(bytes);
    if (end < 0) this.openByteCount += bytes.length;
    else this.openByteCount += end + 1;
    this.longest = Math.max(this.longest, this.openByteCount);
    if (end >= 0) this.openByteCount = bytes.length - lastLineEndIn(bytes) - 1;
  }

  /** The bytes of the longest line, if it is too long to be read. */
  get tooLong(): number | null {
    return this.longest >= LINE_BYTE_COUNT_MAX ? this.longest : null;
  }
}
