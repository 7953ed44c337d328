/** Finds the outputs below a folder or a prefix that hold the record of a run. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LOG_FOLDER, sequencesOf } from '../../shared/events/log-segments.js';
import { systemCodeOf } from '../../shared/base/system-errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';

/** Folders below the one that is named, and folders that are looked into. */
const DEPTH_MAX = 4;
const FOLDER_COUNT_MAX = 100_000;
/** Objects of a bucket that are looked at: 200 requests. */
const LISTED_KEYS_MAX = 200_000;
const SEGMENT_KEY = new RegExp(`^(.*/)?${LOG_FOLDER}/events-\\d+\\.ndjson$`);

interface FoundRecords {
  /** Ascending. */
  readonly outputs: readonly string[];
  /** There are more folders or objects than are looked at. */
  readonly isCut: boolean;
}

export async function findRecords(folder: string): Promise<FoundRecords> {
  const outputs: string[] = [];
  let level = [folder];
  let seenCount = 0;
  for (let depth = 0; depth <= DEPTH_MAX && level.length > 0; depth += 1) {
    const below: string[] = [];
    for (const each of level) {
      seenCount += 1;
      if (seenCount > FOLDER_COUNT_MAX) return { outputs: outputs.sort(), isCut: true };
      const names = await foldersIn(each);
      if (names.includes(LOG_FOLDER) && (await isLog(join(each, LOG_FOLDER)))) outputs.push(each);
      below.push(...names.filter((name) => name !== LOG_FOLDER).map((name) => join(each, name)));
    }
    level = below;
  }
  return { outputs: outputs.sort(), isCut: false };
}

/** Lists the objects below the prefix once, since a bucket has no folders. The output of the prefix itself is ''. */
export async function findRecordsInBucket(
  store: Pick<ObjectStore, 'list'>,
  keyCountMax = LISTED_KEYS_MAX,
): Promise<FoundRecords> {
  const keys = await store.list('', keyCountMax);
  const outputs = new Set<string>();
  for (const key of keys) {
    const match = SEGMENT_KEY.exec(key);
    if (match !== null) outputs.add((match[1] ?? '').replace(/\/$/, ''));
  }
  return { outputs: [...outputs].sort(), isCut: keys.length >= keyCountMax };
}

async function isLog(folder: string): Promise<boolean> {
  return sequencesOf(await readdir(folder)).length > 0;
}

/** The folder that was named must be there; one that has gone since is empty. */
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
