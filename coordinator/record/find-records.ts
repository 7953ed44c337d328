/** Finds the outputs below a folder or a prefix that hold the record of a run. */

import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemCodeOf } from '../../shared/base/system-errors.js';
import { LOG_FOLDER, sequencesOf } from '../../shared/events/event-log.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { openObjectStore } from '../../shared/storage/open-object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';

/** Folders below the one that is named, and folders that are looked into. */
const DEPTH_MAX = 4;
const FOLDER_COUNT_MAX = 100_000;
/** Objects of a bucket that are looked at: 200 requests. */
const LISTED_KEYS_MAX = 200_000;
const SEGMENT_KEY = new RegExp(`^(.*/)?${LOG_FOLDER}/events-\\d+\\.ndjson$`);

interface FoundRecords {
  /** Paths below the place that was named, ascending; empty for the place itself. */
  readonly paths: readonly string[];
  /** There are more folders or objects than are looked at. */
  readonly isCut: boolean;
}

/** @param root a folder or an `s3://` prefix. @returns outputs, each with its path below the root */
export async function findRecords(
  root: string,
  s3: S3Options,
): Promise<{ outputs: { output: string; path: string }[]; isCut: boolean }> {
  const isBucket = root.startsWith('s3://');
  const place = isBucket ? root.replace(/\/+$/, '') : resolve(root.replace(/^file:\/\//, ''));
  const { paths, isCut } = isBucket
    ? await recordsInBucket(openObjectStore(place, s3))
    : await recordsInFolder(place);
  const outputs = paths.map((path) => ({ path, output: path === '' ? place : `${place}/${path}` }));
  return { outputs, isCut };
}

async function recordsInFolder(root: string): Promise<FoundRecords> {
  const paths: string[] = [];
  let level = [''];
  let seenCount = 0;
  for (let depth = 0; depth <= DEPTH_MAX && level.length > 0; depth += 1) {
    const below: string[] = [];
    for (const path of level) {
      seenCount += 1;
      if (seenCount > FOLDER_COUNT_MAX) return { paths: paths.sort(), isCut: true };
      const names = await foldersIn(join(root, path));
      if (
        names.includes(LOG_FOLDER) &&
        sequencesOf(await readdir(join(root, path, LOG_FOLDER))).length > 0
      )
        paths.push(path);
      below.push(...names.filter((name) => name !== LOG_FOLDER).map((name) => join(path, name)));
    }
    level = below;
  }
  return { paths: paths.sort(), isCut: false };
}

/** Lists the objects below the prefix once, since a bucket has no folders. */
export async function recordsInBucket(
  store: Pick<ObjectStore, 'list'>,
  keyCountMax = LISTED_KEYS_MAX,
): Promise<FoundRecords> {
  const keys = await store.list('', keyCountMax);
  const paths = new Set<string>();
  for (const key of keys) {
    const match = SEGMENT_KEY.exec(key);
    if (match !== null) paths.add((match[1] ?? '').replace(/\/$/, ''));
  }
  return { paths: [...paths].sort(), isCut: keys.length >= keyCountMax };
}

/** A folder that is gone or closed to this user is empty. */
async function foldersIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    const code = systemCodeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return [];
    throw error;
  }
}
