/** Runs below the folders and prefixes that a dashboard was given, each with the key that its address has. */

import { basename, relative, resolve, sep } from 'node:path';
import { openObjectStore } from '../../../shared/storage/open-object-store.js';
import type { S3Options } from '../../../shared/storage/s3-object-store.js';
import { findRecords, findRecordsInBucket } from '../../record/find-records.js';

export interface FoundRun {
  /** Its path below the root, with `:` for `/`. Unique among those that were found together. */
  readonly key: string;
  /** A folder or an `s3://` prefix. */
  readonly output: string;
}

export interface FoundRuns {
  readonly runs: readonly FoundRun[];
  /** There are more than were looked for. */
  readonly isCut: boolean;
}

export const RUN_COUNT_MAX = 10_000;

/** Each output once, also where one root lies below another. */
export async function findRuns(roots: readonly string[], s3: S3Options): Promise<FoundRuns> {
  const outputByKey = new Map<string, string>();
  const outputs = new Set<string>();
  let isCut = false;
  for (const root of roots) {
    const found = root.startsWith('s3://') ? await inBucket(root, s3) : await inFolder(root);
    isCut ||= found.isCut;
    for (const { key, output } of found.runs) {
      if (outputs.has(output)) continue;
      if (outputByKey.size >= RUN_COUNT_MAX) return { runs: runsOf(outputByKey), isCut: true };
      outputs.add(output);
      outputByKey.set(freeKey(key, outputByKey), output);
    }
  }
  return { runs: runsOf(outputByKey), isCut };
}

async function inFolder(root: string): Promise<FoundRuns> {
  const folder = resolve(root.replace(/^file:\/\//, ''));
  const { outputs, isCut } = await findRecords(folder);
  const runs = outputs.map((output) => ({
    key: keyOf(relative(folder, output).split(sep), basename(folder)),
    output,
  }));
  return { runs, isCut };
}

async function inBucket(root: string, s3: S3Options): Promise<FoundRuns> {
  const prefix = root.replace(/\/+$/, '');
  const { outputs, isCut } = await findRecordsInBucket(openObjectStore(prefix, s3));
  const runs = outputs.map((folder) => ({
    key: keyOf(folder.split('/'), basename(prefix)),
    output: folder === '' ? prefix : `${prefix}/${folder}`,
  }));
  return { runs, isCut };
}

function keyOf(parts: readonly string[], rootName: string): string {
  const named = parts.filter((part) => part !== '');
  return named.length === 0 ? rootName : named.join(':');
}

/** Two roots may have folders of the same name. */
function freeKey(key: string, taken: ReadonlyMap<string, string>): string {
  for (let number = 1; ; number += 1) {
    const candidate = number === 1 ? key : `${key}~${number}`;
    if (!taken.has(candidate)) return candidate;
  }
}

function runsOf(outputByKey: ReadonlyMap<string, string>): FoundRun[] {
  return [...outputByKey].map(([key, output]) => ({ key, output }));
}
