/**
 * Checks that a compressed log is complete, and one of gzip that its lines are short enough. DuckDB reads as much of
 * a truncated file as there is and reports nothing, so that rows would be missing silently.
 */

import { at } from '../../shared/base/arrays.js';
import { createReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { QianmoError } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import type { LogFile } from './log-files.js';
import { LineLengths, tooLongLine } from './long-lines.js';

const CHUNK_BYTE_COUNT = 1024 * 1024;

/**
 * Runs while the file is read. A gzip file is decompressed once more on another thread; of a Zstandard file
 * only the block headers are read. Other files pass at once.
 *
 * @throws QianmoError of kind `data` if the end is missing, the checksum of gzip does not match or a line is too
 *   long; the reason of the signal if it aborts.
 */
export async function requireWholeFile(
  file: Pick<LogFile, 'path' | 'name'> & Partial<Pick<LogFile, 'format'>>,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  const { path, name } = file;
  const lines = new LineLengths();
  try {
    if (/\.gz$/i.test(name)) await decompress(path, lines, signal);
    else if (/\.zstd?$/i.test(name) && !(await endsWithFrame(path, signal))) throw cutShort(name);
  } catch (cause) {
    signal.throwIfAborted();
    const code = cause instanceof Error && 'code' in cause ? cause.code : null;
    if (code === 'Z_BUF_ERROR') throw cutShort(name);
    if (code === 'Z_DATA_ERROR') throw damaged(name, cause);
    throw systemFailure(cause, 'reading a log file', name);
  }
  if (lines.tooLong !== null) throw tooLongLine(file, null, lines.tooLong);
}

async function decompress(path: string, lines: LineLengths, signal: AbortSignal): Promise<void> {
  const nowhere = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      lines.add(chunk);
      done();
    },
  });
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTE_COUNT });
  await pipeline(source, createGunzip({ chunkSize: CHUNK_BYTE_COUNT }), nowhere, { signal });
}

const FRAME_MAGIC = 0xfd2fb528;
/** The low four bits are the writer's. */
const SKIPPABLE_FRAME_MAGIC = 0x184d2a50;
const DICTIONARY_ID_BYTE_COUNTS = [0, 1, 2, 4];
const BLOCK_HEADER_BYTE_COUNT = 3;
const BLOCK_KIND_REPEATED_BYTE = 1;

/**
 * Returns whether the file consists of frames of RFC 8878 from start to end. A file without any frame is left for
 * the reader to refuse.
 */
async function endsWithFrame(path: string, signal: AbortSignal): Promise<boolean> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    let offset = 0;
    while (offset < size) {
      signal.throwIfAborted();
      const end = await frameEnd(file, offset);
      if (end === null) return true;
      offset = end;
    }
    return offset === size;
  } finally {
    await file.close();
  }
}

/**
 * The offset after the frame, which is beyond the end of a truncated file; null if there is no
 * frame.
 */
async function frameEnd(file: FileHandle, start: number): Promise<number | null> {
  const header = await bytesAt(file, start, 5);
  const magic = header.readUInt32LE(0);
  if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_FRAME_MAGIC)
    return start + 8 + (await bytesAt(file, start + 4, 4)).readUInt32LE(0);
  if (magic !== FRAME_MAGIC) return null;
  const descriptor = header.readUInt8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const contentSizeByteCount = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 2 ** sizeFlag;
  const dictionaryIdByteCount = at(DICTIONARY_ID_BYTE_COUNTS, descriptor & 3);
  let offset = start + 5 + (isSingleSegment ? 0 : 1) + dictionaryIdByteCount + contentSizeByteCount;
  for (let isLast = false; !isLast;) {
    const block = await file.read(Buffer.alloc(BLOCK_HEADER_BYTE_COUNT), 0, 3, offset);
    if (block.bytesRead < BLOCK_HEADER_BYTE_COUNT) return Number.POSITIVE_INFINITY;
    const value = block.buffer.readUIntLE(0, BLOCK_HEADER_BYTE_COUNT);
    isLast = (value & 1) === 1;
    const kind = (value >> 1) & 3;
    offset += BLOCK_HEADER_BYTE_COUNT + (kind === BLOCK_KIND_REPEATED_BYTE ? 1 : value >> 3);
  }
  return offset + ((descriptor & 0x04) === 0 ? 0 : 4);
}

/** Reads zeros beyond the end of the file. */
async function bytesAt(file: FileHandle, offset: number, byteCount: number): Promise<Buffer> {
  const { buffer } = await file.read(Buffer.alloc(byteCount), 0, byteCount, offset);
  return buffer;
}

function cutShort(name: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a log file is cut short',
    where: name,
    expected: 'a whole compressed file',
    found: 'a file that ends in the middle',
    cure: 'copy it again from its source',
  });
}

function damaged(name: string, cause: unknown): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a log file cannot be read',
    where: name,
    expected: 'a whole file compressed by gzip',
    cure: 'check that its name says what it is, or copy it again from its source',
    cause,
  });
}
