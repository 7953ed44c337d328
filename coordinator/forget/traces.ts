/** Looks for the bytes of an id in files, whatever wrote them, and within gzip and Parquet. */

import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { open, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemFailure } from '../../shared/base/system-errors.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';
import { identifier, literal } from '../logs/sql.js';
import type { ForgetPlace } from './forget-logs.js';

/** Shorter ids are in nearly every file by chance. */
export const SCANNED_BYTE_COUNT_MIN = 4;

export interface Traces {
  readonly fileCount: number;
  readonly byteCount: number;
  /** Files that hold the id, the first ones. */
  readonly found: readonly string[];
  /** Files whose compression is not read, or all if the id is too short. */
  readonly skipped: readonly string[];
}

const FOUND_MAX = 20;

/** Looks through every file of the places: paths and `s3://` addresses of files and folders. One that is absent has none. */
export async function tracesIn(
  places: readonly string[],
  value: string,
  place: ForgetPlace & { readonly temporaryFolder: string },
): Promise<Traces> {
  const [found, skipped, seen] = [[] as string[], [] as string[], new Set<string>()];
  let byteCount = 0;
  for (const address of places)
    for await (const { name, path } of filesAt(address, place)) {
      place.session.signal.throwIfAborted();
      if (seen.has(name)) continue;
      seen.add(name);
      const { size } = await stat(path);
      const holds = await holdsId(path, value, place).catch((cause: unknown) => {
        throw systemFailure(cause, 'looking for traces', name);
      });
      if (holds === null) skipped.push(name);
      else byteCount += size;
      if (holds === true) found.push(name);
      if (found.length === FOUND_MAX) break;
    }
  return { fileCount: seen.size - skipped.length, byteCount, found, skipped };
}

interface PlacedFile {
  readonly name: string;
  readonly path: string;
}

async function* filesAt(
  address: string,
  place: ForgetPlace & { readonly temporaryFolder: string },
): AsyncGenerator<PlacedFile> {
  if (!address.startsWith('s3://')) return yield* localFiles(resolve(objectFolderOf(address)));
  const [, folder = address, rest = ''] =
    /^(s3:\/\/[^/]+(?:\/.*)?)\/([^/]+)\/?$/.exec(address) ?? [];
  const store = place.objectStoreOf(folder);
  const path = join(place.temporaryFolder, 'traced');
  for (const key of await store.list(rest)) {
    if (rest !== '' && key !== rest && !key.startsWith(`${rest}/`)) continue;
    const object = await store.get(key);
    if (object === null) continue;
    await writeFile(path, object.bytes);
    yield { name: `${folder}/${key}`, path };
  }
  await rm(path, { force: true });
}

async function* localFiles(path: string): AsyncGenerator<PlacedFile> {
  const status = await stat(path).catch(() => null);
  if (status?.isFile() === true) yield { name: path, path };
  if (status?.isDirectory() !== true) return;
  for (const name of (await readdir(path)).sort()) yield* localFiles(join(path, name));
}

/** First bytes of compressed files, in hexadecimal, that are not looked into: zstd, xz, bzip2, lz4, zip. */
const UNREAD = /^(28b52ffd|fd377a58|425a68|04224d18|504b0304)/;
const HEAD_BYTE_COUNT = 8_192;

/** Null if the file cannot be looked through. */
async function holdsId(
  path: string,
  value: string,
  { session }: ForgetPlace,
): Promise<boolean | null> {
  const opened = await open(path, 'r');
  const { buffer, bytesRead } = await opened
    .read(Buffer.alloc(HEAD_BYTE_COUNT), 0, HEAD_BYTE_COUNT, 0)
    .finally(() => opened.close());
  const head = buffer.subarray(0, bytesRead);
  const magic = head.subarray(0, 4).toString('hex');
  if (UNREAD.test(magic) || Buffer.byteLength(value) < SCANNED_BYTE_COUNT_MIN) return null;
  if (magic === '50415231') {
    const scan = `read_parquet(${literal(path)}, hive_partitioning = false)`;
    const columns = await session.rows(`SELECT column_name FROM (DESCRIBE SELECT * FROM ${scan})`);
    const texts = columns.map(([name]) => `CAST(${identifier(String(name))} AS VARCHAR)`);
    const row = `concat_ws(chr(31), ${texts.join(', ')})`;
    return (
      (await session.count(
        `(SELECT 1 FROM ${scan} WHERE contains(${row}, ${literal(value)}) LIMIT 1)`,
      )) > 0
    );
  }
  const isGzip = magic.startsWith('1f8b');
  const file = createReadStream(path);
  const bytes = isGzip ? pipeline(file, createGunzip(), () => undefined) : file;
  return isInBytes(bytes, value, isGzip || !head.includes(0));
}

/** In a text, an id of letters and digits is found where neither is beside it: a number holds the digits of many shorter ones. */
export async function isInBytes(
  source: AsyncIterable<Buffer>,
  value: string,
  isText: boolean,
): Promise<boolean> {
  const forms = new Set([value, value.replaceAll('"', '""'), JSON.stringify(value).slice(1, -1)]);
  const sources = [...forms].map((form) => {
    const bytes = Buffer.from(form).toString('latin1');
    const escaped = bytes.replace(
      /[^0-9A-Za-z]/g,
      (each) => `\\u00${each.charCodeAt(0).toString(16).padStart(2, '0')}`,
    );
    if (!isText) return escaped;
    return `${/^[0-9A-Za-z]/.test(bytes) ? '(?<=[^0-9A-Za-z])' : ''}${escaped}${/[0-9A-Za-z]$/.test(bytes) ? '(?=[^0-9A-Za-z])' : ''}`;
  });
  const pattern = new RegExp(sources.join('|'));
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
