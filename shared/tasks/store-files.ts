/**
 * The files of a task store, local or fetched from an object store, each checked against the
 * manifest before its first byte is used. Knows nothing of Arrow.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { QianmoError } from '../base/errors.js';
import { systemCodeOf, systemFailure } from '../base/system-errors.js';
import { partOf } from '../storage/file-bytes.js';
import type { ObjectStore } from '../storage/object-store.js';
import { sha256Of } from '../tensors/sha256.js';
import { MANIFEST_FILE, type StoreManifest, StoreManifestSchema } from './store-manifest.js';

export interface ReadManifest {
  readonly manifest: StoreManifest;
  /** SHA-256 of the manifest's bytes. */
  readonly digest: string;
}

export const RESTORE_CURE =
  'restore the store from a copy, or write it again with `qianmo prepare --force`';

/** @throws QianmoError of kind `data` if the bytes are not a manifest that this version reads. */
export function parseManifest(bytes: Uint8Array, where: string): ReadManifest {
  let content: unknown;
  try {
    content = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new QianmoError({
      kind: 'data',
      what: 'the manifest of the task store is not JSON',
      where,
      found: `${bytes.byteLength} bytes that end too early or were changed`,
      cure: RESTORE_CURE,
      cause,
    });
  }
  const parsed = StoreManifestSchema.safeParse(content);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new QianmoError({
      kind: 'data',
      what: 'the manifest of the task store is not one that this version reads',
      where,
      found: issue === undefined ? 'unknown fields' : `${issue.path.join('.')}: ${issue.message}`,
      cure: RESTORE_CURE,
    });
  }
  return {
    manifest: parsed.data,
    digest: sha256Of(bytes),
  };
}

export async function readLocalManifest(folder: string): Promise<ReadManifest> {
  const path = join(folder, MANIFEST_FILE);
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') throw noStoreAt(folder);
    throw systemFailure(cause, 'reading the task store', path);
  }
  return parseManifest(bytes, path);
}

export function noStoreAt(address: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'there is no task store',
    where: address,
    expected: `a folder with ${MANIFEST_FILE}`,
    cure: 'write it with `qianmo prepare`, or correct data.store',
  });
}

export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 }))
    // A read stream without encoding gives buffers.
    hash.update(bytes as Buffer);
  return hash.digest('hex');
}

export type StoreFile = StoreManifest['files'][number];

/** @throws QianmoError of kind `data` if the file is missing or has another size. */
export async function checkFileSize(folder: string, file: StoreFile): Promise<void> {
  const path = join(folder, file.name);
  let byteCount: number;
  try {
    byteCount = (await stat(path)).size;
  } catch (cause) {
    if (systemCodeOf(cause) !== 'ENOENT')
      throw systemFailure(cause, 'reading a file of the task store', path);
    throw new QianmoError({
      kind: 'data',
      what: 'a file of the task store is missing',
      where: path,
      expected: `${file.byteCount} bytes`,
      cure: RESTORE_CURE,
    });
  }
  if (byteCount !== file.byteCount)
    throw new QianmoError({
      kind: 'data',
      what: 'a file of the task store has another size than its manifest says',
      where: path,
      expected: `${file.byteCount} bytes`,
      found: `${byteCount} bytes`,
      cure: RESTORE_CURE,
    });
}

/** @throws QianmoError of kind `data` if the content does not match the manifest. */
export async function checkFileContent(folder: string, file: StoreFile): Promise<void> {
  const path = join(folder, file.name);
  let sha256: string;
  try {
    sha256 = await sha256OfFile(path);
  } catch (cause) {
    throw systemFailure(cause, 'reading a file of the task store', path);
  }
  if (sha256 !== file.sha256)
    throw new QianmoError({
      kind: 'data',
      what: 'a file of the task store was changed',
      where: path,
      expected: `sha256 ${file.sha256}`,
      found: `sha256 ${sha256}`,
      cure: RESTORE_CURE,
    });
}

/** Fetches one file into the folder, once. The file appears only when it is complete. */
export async function fetchFile(
  objects: ObjectStore,
  folder: string,
  file: StoreFile,
): Promise<void> {
  const path = join(folder, file.name);
  const present = await stat(path).catch(() => null);
  if (present?.size === file.byteCount) return;
  const object = await objects.get(file.name, file.byteCount);
  if (object === null)
    throw new QianmoError({
      kind: 'data',
      what: 'a file of the task store is missing',
      where: `${objects.address}/${file.name}`,
      expected: `${file.byteCount} bytes`,
      cure: RESTORE_CURE,
    });
  // Two readers of one process may fetch the same file at the same time.
  const part = partOf(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(part, object.bytes);
    await rename(part, path);
  } catch (cause) {
    await rm(part, { force: true }).catch(() => undefined);
    throw systemFailure(cause, 'keeping a file of the task store locally', path);
  }
}

export async function removeFile(folder: string, file: StoreFile): Promise<void> {
  const path = join(folder, file.name);
  try {
    await rm(path, { force: true });
  } catch (cause) {
    throw systemFailure(cause, 'removing a damaged file of the task store', path);
  }
}
