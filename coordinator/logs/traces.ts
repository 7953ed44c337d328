/** Looks for the bytes of an id in files, whatever wrote them, and within gzip and Parquet. */

import { createReadStream } from 'node:fs';
import { open, readdir, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { systemFailure } from '../../shared/base/system-errors.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';
import type { DuckSession } from './duckdb-session.js';
import { literal } from './sql.js';
import type { ForgetPlace } from './forget-rows.js';

export interface Traces {
  readonly fileCount: number;
  readonly byteCount: number;
  readonly found: readonly string[];
  /** Files whose compression is not read, or all if the id is too short. */
  readonly skipped: readonly string[];
}

/** Looks through every file of the places: paths and `s3://` addresses of files and folders. One that is absent has none. */
export async function tracesIn(
  places: readonly string[],
  value: string,
  place: ForgetPlace & { readonly temporaryFolder: string },
): Promise<Traces> {
  const [found, skipped, seen] = [[] as string[], [] as string[], new Set<string>()];
  const fetched = join(place.temporaryFolder, 'traced');
  let byteCount = 0;
  const lookInto = async (name: string, path: string): Promise<void> => {
    place.session.signal.throwIfAborted();
    const holds = await holdsId(path, value, place.session).catch((cause: unknown) => {
      throw systemFailure(cause, 'looking for traces', name);
    });
    if (holds === null) skipped.push(name);
    else byteCount += (await stat(path)).size;
    if (holds === true) found.push(name);
  };
  for (const address of places) {
    if (!address.startsWith('s3://')) {
      for (const path of await localFiles(resolve(objectFolderOf(address))))
        if (seen.size < seen.add(path).size) await lookInto(path, path);
      continue;
    }
    const [, folder = address, rest = ''] =
      /^(s3:\/\/[^/]+(?:\/.*)?)\/([^/]+)\/?$/.exec(address) ?? [];
    const store = place.objectStoreOf(folder);
    for (const key of await store.list(rest)) {
      const object = `${key}/`.startsWith(rest && `${rest}/`) ? await store.get(key) : null;
      if (object === null || seen.size === seen.add(`${folder}/${key}`).size) continue;
      await writeFile(fetched, object.bytes);
      await lookInto(`${folder}/${key}`, fetched);
    }
  }
  return { fileCount: seen.size - skipped.length, byteCount, found, skipped };
}

async function localFiles(path: string): Promise<string[]> {
  const status = await stat(path).catch(() => null);
  if (status?.isDirectory() !== true) return status === null ? [] : [path];
  const below = (await readdir(path)).sort().map((name) => localFiles(join(path, name)));
  return (await Promise.all(below)).flat();
}

/** First bytes of compressed files, in hexadecimal, that are not looked into: zstd, xz, bzip2, lz4, zip. */
const UNREAD = /^(28b52ffd|fd377a58|425a68|04224d18|504b0304)/;
const ID_BYTE_COUNT_MIN = 4;

/** Null if the file is not looked through; shorter ids are in nearly every file by chance. */
async function holdsId(path: string, value: string, session: DuckSession): Promise<boolean | null> {
  const opened = await open(path, 'r');
  const head = Buffer.alloc(8_192);
  const { bytesRead } = await opened.read(head).finally(() => opened.close());
  const magic = head.toString('hex', 0, 4);
  if (UNREAD.test(magic) || Buffer.byteLength(value) < ID_BYTE_COUNT_MIN) return null;
  if (magic === '50415231') {
    const text = literal(JSON.stringify(value).slice(1, -1));
    const rows = `read_parquet(${literal(path)}, hive_partitioning = false) AS t`;
    const sql = `(SELECT 1 FROM ${rows} WHERE contains(CAST(to_json(t) AS VARCHAR), ${text}))`;
    return (await session.count(sql)) > 0;
  }
  const file = createReadStream(path);
  if (!magic.startsWith('1f8b'))
    return isInBytes(file, value, !head.subarray(0, bytesRead).includes(0));
  return isInBytes(
    pipeline(file, createGunzip(), () => undefined),
    value,
    true,
  );
}

/** In a text, an id of letters and digits is found where neither is beside it: a number holds the digits of many shorter ones. */
async function isInBytes(
  source: AsyncIterable<Buffer>,
  value: string,
  isText: boolean,
): Promise<boolean> {
  const forms = new Set([value, value.replaceAll('"', '""'), JSON.stringify(value).slice(1, -1)]);
  const patterns = [...forms].map((form) => {
    const bytes = Buffer.from(form).toString('hex').replace(/../g, '\\x$&');
    const before = isText && /^[0-9A-Za-z]/.test(form) ? '(?<=[^0-9A-Za-z])' : '';
    return `${before}${bytes}${isText && /[0-9A-Za-z]$/.test(form) ? '(?=[^0-9A-Za-z])' : ''}`;
  });
  const pattern = new RegExp(patterns.join('|'));
  // What is beside an id may be in the next chunk.
  const keptCount = 6 * Buffer.byteLength(value) + 2;
  let text = '\0';
  for await (const chunk of source) {
    text += chunk.toString('latin1');
    if (pattern.test(text)) return true;
    text = text.slice(-keptCount);
  }
  return pattern.test(`${text}\0`);
}
