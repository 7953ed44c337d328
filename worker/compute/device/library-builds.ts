/** The native libraries that this process computes with, told apart by their content. */

import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { basename } from 'node:path';

interface LibraryBuild {
  readonly file: string;
  /** The beginning of a digest of the file's size and its first mebibyte. */
  readonly digest: string;
}

const OF_CPU = /^(libtensorflow(_cc|_framework)?\.so[.\d]*|tfjs_binding\.node)$/;
const OF_GPU = /^lib(cudart|cublas|cublasLt|cudnn\w*)\.so[.\d]*$/;
/**
 * The beginning of a library holds its build id, its symbols and their hashes, which differ between any
 * two builds. The whole file has up to a gigabyte.
 */
const READ_BYTE_COUNT_MAX = 2 ** 20;
const DIGEST_LENGTH = 12;

/** In order of file names. Empty where the kernel lists no mapped files. */
export function libraryBuilds(usesGpu: boolean, mapsPath = '/proc/self/maps'): LibraryBuild[] {
  const isComputing = (path: string): boolean =>
    OF_CPU.test(basename(path)) || (usesGpu && OF_GPU.test(basename(path)));
  const paths = new Set(mappedFiles(mapsPath).filter(isComputing));
  return [...paths]
    .map((path) => ({ file: basename(path), digest: digestOf(path) }))
    .sort((a, b) => (a.file < b.file ? -1 : 1));
}

function mappedFiles(mapsPath: string): string[] {
  try {
    return readFileSync(mapsPath, 'utf8')
      .split('\n')
      .flatMap((line) => /\s(\/.*)$/.exec(line)?.[1] ?? []);
  } catch {
    return [];
  }
}

function digestOf(path: string): string {
  const hash = createHash('sha256');
  let descriptor: number | null = null;
  try {
    descriptor = openSync(path, 'r');
    const bytes = Buffer.alloc(READ_BYTE_COUNT_MAX);
    const byteCount = readSync(descriptor, bytes, 0, bytes.length, 0);
    hash.update(String(fstatSync(descriptor).size)).update(bytes.subarray(0, byteCount));
  } catch {
    // The file was replaced while it was in use.
    return 'unknown';
  } finally {
    if (descriptor !== null) closeSync(descriptor);
  }
  return hash.digest('hex').slice(0, DIGEST_LENGTH);
}
