/**
 * Files of a folder in memory that hold nothing any more. A write into pages that a file has already takes a fifth of
 * the time of a write into new ones, and a file that is kept need not be given back to the system.
 */

import { closeSync, ftruncateSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Bounds the memory that is kept for nothing. */
const SPARE_BYTE_COUNT_MAX = 64 * 1024 * 1024;
const SPARE_COUNT_MAX = 1024;
/** A file of another size gains or loses pages, so it is used up to this factor. */
const SIZE_FACTOR_MAX = 2;

interface SpareFile {
  readonly path: string;
  readonly byteCount: number;
}

/** Sets the files of this process apart from those of any other. */
let keptCount = 0;

export class SpareFiles {
  readonly #folder: string;
  readonly #suffix: string;
  /** The oldest first. */
  #files: SpareFile[] = [];
  #byteCount = 0;

  /** @param suffix by which those who tidy the folder know its files. */
  constructor(folder: string, suffix: string) {
    this.#folder = folder;
    this.#suffix = suffix;
  }

  /** Takes the name from a file. Returns false for a file that is not there, or not wanted here. */
  keep(path: string, byteCount: number): boolean {
    if (byteCount > SPARE_BYTE_COUNT_MAX) return false;
    keptCount += 1;
    const name = `spare-${process.pid}-${keptCount}${this.#suffix}`;
    const spare = { path: join(this.#folder, name), byteCount };
    try {
      renameSync(path, spare.path);
    } catch {
      return false;
    }
    this.#files.push(spare);
    this.#byteCount += byteCount;
    while (this.#files.length > SPARE_COUNT_MAX || this.#byteCount > SPARE_BYTE_COUNT_MAX)
      this.#removeOldest();
    return true;
  }

  /** Writes the bytes to a spare file and gives it the name. Returns false where none serves. */
  write(path: string, bytes: Uint8Array): boolean {
    const { byteLength } = bytes;
    const place = this.#files.findLastIndex(
      ({ byteCount }) =>
        byteCount <= SIZE_FACTOR_MAX * byteLength && byteLength <= SIZE_FACTOR_MAX * byteCount,
    );
    const [spare] = place < 0 ? [] : this.#files.splice(place, 1);
    if (spare === undefined) return false;
    this.#byteCount -= spare.byteCount;
    try {
      overwrite(spare, bytes);
      renameSync(spare.path, path);
      return true;
    } catch {
      // It was swept, or the folder is full.
      removeQuietly(spare.path);
      return false;
    }
  }

  /** Jobs of another size need other files. */
  #removeOldest(): void {
    const oldest = this.#files.shift();
    if (oldest === undefined) return;
    this.#byteCount -= oldest.byteCount;
    removeQuietly(oldest.path);
  }

  /** Gives their memory back. Returns whether there were any. */
  clear(): boolean {
    const files = this.#files;
    this.#files = [];
    this.#byteCount = 0;
    for (const { path } of files) removeQuietly(path);
    return files.length > 0;
  }
}

function overwrite({ path }: SpareFile, bytes: Uint8Array): void {
  const file = openSync(path, 'r+');
  try {
    let written = 0;
    while (written < bytes.byteLength)
      written += writeSync(file, bytes, written, bytes.byteLength - written, written);
    ftruncateSync(file, bytes.byteLength);
  } finally {
    closeSync(file);
  }
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else has removed it.
  }
}
