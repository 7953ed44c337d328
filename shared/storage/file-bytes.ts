/** Whole files as bytes, of any size, and the syncs that let a new file survive a power failure. */

import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { systemCodeOf } from '../base/system-errors.js';

/** One call of the system reads less than 2 GiB. */
const READ_PIECE_BYTE_COUNT_MAX = 64 * 1024 * 1024;
/**
 * A file system keeps what one call writes in pages as large as the call allows, and maps those whole. Of
 * large pages a multiple, so that each call begins where one does.
 */
const WRITTEN_PIECE_BYTE_COUNT_MAX = 64 * 1024 * 1024;

export const PART_SUFFIX = '.part';

/** A name beside the file, for what is written before it is complete. */
export function partOf(path: string): string {
  return `${path}.${randomUUID()}${PART_SUFFIX}`;
}

/** Writes a new file and syncs it. */
export async function writeDurably(
  path: string,
  bytes: Uint8Array,
  mode = 0o666,
  pieceByteCountMax = WRITTEN_PIECE_BYTE_COUNT_MAX,
): Promise<void> {
  await writePieces(path, piecesOf(bytes, pieceByteCountMax), mode);
}

async function writePieces(
  path: string,
  pieces: Iterable<Uint8Array>,
  mode: number,
): Promise<number> {
  const file = await open(path, 'wx', mode);
  let position = 0;
  try {
    for (const piece of pieces)
      for (let written = 0; written < piece.byteLength;) {
        const left = piece.byteLength - written;
        const { bytesWritten } = await file.write(piece, written, left, position);
        written += bytesWritten;
        position += bytesWritten;
      }
    await file.sync();
  } finally {
    await file.close();
  }
  return position;
}

function* piecesOf(bytes: Uint8Array, byteCountMax: number): Iterable<Uint8Array> {
  for (let position = 0; position < bytes.byteLength; position += byteCountMax)
    yield bytes.subarray(position, position + byteCountMax);
}

/**
 * Puts a file in the place of what is there. It is whole at every moment, also after a power failure. Each piece is made when the one
 * before is written, so that other work goes on between them.
 *
 * @returns the number of bytes.
 */
export async function replaceByPieces(
  path: string,
  pieces: Iterable<Uint8Array>,
  mode = 0o666,
): Promise<number> {
  const part = partOf(path);
  let byteCount: number;
  try {
    byteCount = await writePieces(part, pieces, mode);
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(path));
  return byteCount;
}

export async function readBytes(
  path: string,
  pieceByteCountMax = READ_PIECE_BYTE_COUNT_MAX,
): Promise<Uint8Array> {
  const file = await open(path, 'r');
  try {
    const status = await file.stat();
    if (status.isDirectory()) throw Object.assign(new Error('a folder'), { code: 'EISDIR' });
    const bytes = new Uint8Array(status.size);
    let position = 0;
    while (position < bytes.byteLength) {
      const length = Math.min(pieceByteCountMax, bytes.byteLength - position);
      const { bytesRead } = await file.read(bytes, position, length, position);
      if (bytesRead === 0) break;
      position += bytesRead;
    }
    // Shorter if the file was truncated meanwhile.
    return bytes.subarray(0, position);
  } finally {
    await file.close();
  }
}

/**
 * Creates a folder and the missing ones above it, and returns the highest that it created. Node gives ENOENT for a
 * recursive `mkdir` on a read-only disk. Creating one folder alone gives the true reason.
 */
export async function makeFolders(path: string): Promise<string | undefined> {
  try {
    return await mkdir(path, { recursive: true });
  } catch (cause) {
    if (systemCodeOf(cause) !== 'ENOENT') throw cause;
    const missing =
      cause instanceof Error && 'path' in cause && typeof cause.path === 'string'
        ? cause.path
        : path;
    await mkdir(missing);
    await mkdir(path, { recursive: true });
    return missing;
  }
}

/** Creates the folder and the missing ones above it, and syncs the folder that each new one is in. */
export async function makeFolderDurably(
  path: string,
  sync: (folder: string) => Promise<void> = syncFolder,
): Promise<void> {
  const first = await makeFolders(path);
  if (first === undefined) return;
  const highest = dirname(resolve(first));
  for (let folder = dirname(resolve(path)); ; folder = dirname(folder)) {
    await sync(folder);
    if (folder === highest || folder === dirname(folder)) return;
  }
}

/** Makes the names in a folder survive a power failure. Some file systems do not support this. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } catch (cause) {
    if (!['EINVAL', 'EPERM', 'ENOTSUP'].includes(systemCodeOf(cause) ?? '')) throw cause;
  } finally {
    await folder.close();
  }
}
