/**
 * Finds the files of the logs. Turns paths, folders, globs and `s3://` addresses into a sorted list of
 * local files with their formats, and computes the fingerprint of their content.
 */

import { createHash } from 'node:crypto';
import { mkdir, open, realpath, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DataConfig } from '../../shared/config/data-config.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  COMPRESSED,
  decompressFile,
  needsDecompression,
  READABLE,
  requireNoArchive,
} from './decompression.js';
import type { DuckSession } from './duckdb-session.js';
import { joinRows, rowLogAt, type ServedRows } from './row-log.js';
import { literal } from './sql.js';

type LogFormat = 'csv' | 'tsv' | 'jsonl' | 'parquet';

export interface LogFile {
  /** The local path that DuckDB reads. */
  readonly path: string;
  /** The name that the user knows: the path or `s3://` address. */
  readonly name: string;
  readonly format: LogFormat;
  readonly byteCount: number;
  /** Present if the file is that of a row log. */
  readonly served?: ServedRows;
}

interface LogSource {
  readonly session: DuckSession;
  readonly objectStoreOf: (address: string) => ObjectStore;
  /** Takes fetched and decompressed files. Later calls with the same folder find them there. */
  readonly temporaryFolder: string;
  /** The first files in the order of their names are found, and fetched, alone. */
  readonly fileCountMax?: number;
  /** Says which files of row logs are left out, by their digests. Without it, a row log without rows is refused. */
  readonly isKnown?: (digest: string) => boolean;
}

const FORMAT_BY_ENDING: Readonly<Record<string, LogFormat>> = {
  csv: 'csv',
  tsv: 'tsv',
  tab: 'tsv',
  json: 'jsonl',
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  parquet: 'parquet',
  pq: 'parquet',
};
const READABLE_ADDRESS = /^(?:(?:file|s3):\/\/|(?![a-z0-9+.-]+:\/\/))/i;
const GLOB = /[*?[\]{}]/;
/** Signs that glob() of DuckDB takes for themselves between brackets. */
const GLOB_SIGN = /[*?[]/g;
const FINGERPRINT_CHUNK_BYTE_COUNT = 1024 * 1024;

/**
 * @throws QianmoError of kind `data` when nothing matches, or a file is unreadable or of no known
 * format.
 */
export async function findLogFiles(
  data: Pick<DataConfig, 'logs' | 'format'>,
  source: LogSource,
): Promise<LogFile[]> {
  const patterns = typeof data.logs === 'string' ? [data.logs] : data.logs;
  const found = new Map<string, Match>();
  const served: LogFile[] = [];
  for (const pattern of patterns) {
    if (!READABLE_ADDRESS.test(pattern)) throw notAnAddress(pattern);
    const rows = await rowLogAt(pattern, source.objectStoreOf);
    if (rows !== null) {
      served.push(await servedFile(pattern, rows, source));
      continue;
    }
    const matches = pattern.startsWith('s3://')
      ? await fetchFromStore(pattern, source)
      : await localMatches(pattern, source.session);
    if (matches.length === 0)
      throw errorOf('data', 'no log file matches', {
        where: `data.logs: ${pattern}`,
        expected: `at least one file (${READABLE})`,
        cure: 'correct the path or pattern; paths are relative to the folder in which the command runs',
      });
    // One file, however its path is written: read twice, its rows would be support rows of their own copies.
    for (const match of matches) {
      const file = await realpath(match.path).catch(() => resolve(match.path));
      if (!found.has(file)) found.set(file, match);
    }
  }
  const files = served;
  // One after another, since thousands of files at once exceed the number that a process may open.
  const byName = [...found.values()].sort((a, b) =>
    a.name < b.name ? -1 : Number(a.name > b.name),
  );
  for (const { name, path } of byName.slice(0, source.fileCountMax))
    files.push(await logFileOf({ name, path }, data.format, source));
  return files;
}

/** The rows of a row log as one file. */
async function servedFile(
  address: string,
  rows: NonNullable<Awaited<ReturnType<typeof rowLogAt>>>,
  { session, temporaryFolder, isKnown }: LogSource,
): Promise<LogFile> {
  const path = `${ownPathOf(address, temporaryFolder)}.rows`;
  await mkdir(dirname(path), { recursive: true });
  const served = await joinRows(rows, {
    ...{ session, path, isKnown },
    fetch: async (key) => {
      const name = `${address}/${key}`;
      const fetched = ownPathOf(name, temporaryFolder);
      await fetchObject(rows.store, key, name, fetched);
      return fetched;
    },
  });
  const byteCount = served.rowCount === 0 ? 0 : (await stat(path)).size;
  return { path, name: address, format: 'jsonl', byteCount, served };
}

function notAnAddress(pattern: string): QianmoError {
  return errorOf('usage', 'logs are not read from this kind of address', {
    where: `data.logs: ${pattern}`,
    expected: 'a path, file://PATH or s3://BUCKET/KEY',
    cure: 'download the logs first, or put them where they can be read from',
  });
}

async function logFileOf(
  match: Match,
  format: DataConfig['format'],
  source: LogSource,
): Promise<LogFile> {
  const { name } = match;
  const path = await readablePath(match, source);
  let byteCount: number;
  try {
    const handle = await open(path, 'r');
    byteCount = (await handle.stat()).size;
    await handle.close();
  } catch (cause) {
    throw systemFailure(cause, 'reading a log file', name);
  }
  return { path, name, byteCount, format: format === 'auto' ? formatOf(name) : format };
}

const TEXT_LITERAL = /'((?:[^']|'')+)'/g;

/** The query, reading decompressed copies of the files that it names and DuckDB does not decompress. */
export async function withReadableFiles(sql: string, source: UnpackingSource): Promise<string> {
  const parts: string[] = [];
  let end = 0;
  for (const { 0: written, 1: text = '', index } of sql.matchAll(TEXT_LITERAL)) {
    const name = text.replaceAll("''", "'");
    if (!needsDecompression(name) || (await stat(name).catch(() => null)) === null) continue;
    parts.push(sql.slice(end, index), literal(await readablePath({ name, path: name }, source)));
    end = index + written.length;
  }
  return [...parts, sql.slice(end)].join('');
}

type UnpackingSource = Pick<LogSource, 'session' | 'temporaryFolder'>;

/** The path of the file, or of its decompressed copy if DuckDB does not decompress it. */
async function readablePath(
  { name, path }: Match,
  { session, temporaryFolder }: UnpackingSource,
): Promise<string> {
  requireNoArchive(name);
  if (!needsDecompression(name)) return path;
  const known = name.startsWith('s3://') ? name : resolve(name);
  const to = ownPathOf(known, temporaryFolder).replace(COMPRESSED, '');
  await decompressFile({ name, from: path, to }, session.signal);
  return to;
}

function endingOf(name: string): string | undefined {
  const ending = name.replace(COMPRESSED, '').toLowerCase();
  return ending.slice(ending.lastIndexOf('.') + 1);
}

function formatOf(name: string): LogFormat {
  const format = FORMAT_BY_ENDING[endingOf(name) ?? ''];
  if (format !== undefined) return format;
  throw errorOf('usage', 'the format of a log file cannot be told from its name', {
    where: name,
    expected: READABLE,
    cure: 'rename the file, or set data.format',
  });
}

interface Match {
  readonly name: string;
  readonly path: string;
}

async function localMatches(pattern: string, session: DuckSession): Promise<Match[]> {
  const path = pattern.startsWith('file://') ? fileURLToPath(pattern) : pattern;
  const status = await stat(path).catch(() => null);
  if (status?.isFile() === true) return [{ name: path, path }];
  if (status?.isDirectory() === true)
    return (await filesMatching(`${path.replace(GLOB_SIGN, '[$&]')}/**`, session)).filter(
      ({ name }) => FORMAT_BY_ENDING[endingOf(name) ?? ''] !== undefined,
    );
  return GLOB.test(path) ? filesMatching(path, session) : [];
}

async function filesMatching(pattern: string, session: DuckSession): Promise<Match[]> {
  const rows = await session.rows(`SELECT file FROM glob(${literal(pattern)})`);
  return rows.map(([file]) => ({ name: String(file), path: String(file) })).filter(isVisible);
}

/** Engines write markers such as `_SUCCESS` and `.part.crc` beside their output. */
function isVisible({ name }: Match): boolean {
  return !/^[._]/.test(basename(name));
}

/** An object store that can stream an object into a file, so that it need not fit in memory. */
interface DownloadingStore extends ObjectStore {
  downloadToFile(key: string, path: string): Promise<unknown>;
}

function canDownload(store: ObjectStore): store is DownloadingStore {
  return 'downloadToFile' in store && typeof store.downloadToFile === 'function';
}

async function fetchFromStore(address: string, source: LogSource): Promise<Match[]> {
  const globAt = address.search(GLOB);
  const fixed = globAt < 0 ? address : address.slice(0, globAt);
  const cut = fixed.lastIndexOf('/');
  const folder = address.slice(0, cut);
  const rest = address.slice(cut + 1);
  const wanted = globAt < 0 ? null : patternOf(rest, address);
  const store = source.objectStoreOf(folder);
  const keys = (await store.list(globAt < 0 ? rest : '')).filter((key) =>
    wanted === null ? key === rest || key.startsWith(`${rest}/`) : wanted.test(key),
  );
  const matches: Match[] = [];
  for (const key of keys.sort()) {
    if (matches.length === source.fileCountMax) break;
    const name = `${folder}/${key}`;
    const path = ownPathOf(name, source.temporaryFolder);
    if (!isVisible({ name, path })) continue;
    if (FORMAT_BY_ENDING[endingOf(name) ?? ''] === undefined && key !== rest) continue;
    requireNoArchive(name);
    await fetchObject(store, key, name, path);
    matches.push({ name, path });
  }
  return matches;
}

/** A path of its own for each address, also where `//` or `..` make others of it; the folders of its key may tell partitions. */
function ownPathOf(name: string, temporaryFolder: string): string {
  const folders = name.split('/').filter((folder) => !['', '.', '..', 's3:'].includes(folder));
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32);
  return join(temporaryFolder, 'fetched', hash, ...folders);
}

async function fetchObject(
  store: ObjectStore,
  key: string,
  name: string,
  path: string,
): Promise<void> {
  // An earlier call with the same folder has fetched it.
  if ((await stat(path).catch(() => null)) !== null) return;
  try {
    await mkdir(dirname(path), { recursive: true });
    if (canDownload(store)) await store.downloadToFile(key, path);
    else {
      const object = await store.get(key);
      if (object !== null) await writeFile(path, object.bytes);
    }
  } catch (cause) {
    throw systemFailure(cause, 'fetching a log file', name);
  }
}

/** `*` within a folder, `**` over folders, `?` one character, `{a,b}` either. */
function patternOf(glob: string, address: string): RegExp {
  const source = glob
    .replace(/[.+^$()|\\]/g, '\\$&')
    .replaceAll('**/', '\u0000')
    .replaceAll('**', '\u0001')
    .replaceAll('*', '[^/]*')
    .replaceAll('?', '[^/]')
    .replaceAll('\u0000', '(?:.*/)?')
    .replaceAll('\u0001', '.*')
    .replace(/\{([^}]*)\}/g, (_, choices: string) => `(?:${choices.replaceAll(',', '|')})`);
  try {
    return new RegExp(`^${source}$`);
  } catch (cause) {
    throw errorOf('usage', 'this pattern of log files cannot be read', {
      where: `data.logs: ${address}`,
      expected: 'brackets around characters, as in part-[0-9].csv',
      cure: 'close the bracket, or name the characters in their order',
      cause,
    });
  }
}

/**
 * SHA-256 of the file's size and all its bytes: a label that is corrected in the middle of a large log makes
 * another store. Costs about a hundredth of the reading. Files of a row log are known by their digests.
 */
export async function fingerprintOf(
  file: Pick<LogFile, 'path' | 'name' | 'served'>,
  signal: AbortSignal,
  doing = 'reading a log file',
): Promise<string> {
  const hash = createHash('sha256');
  if (file.served !== undefined) return hash.update(file.served.digests.join('\n')).digest('hex');
  try {
    const handle = await open(file.path, 'r');
    try {
      hash.update(`${(await handle.stat()).size}\n`);
      const chunk = Buffer.allocUnsafe(FINGERPRINT_CHUNK_BYTE_COUNT);
      for (;;) {
        signal.throwIfAborted();
        const { bytesRead } = await handle.read(chunk);
        if (bytesRead === 0) break;
        hash.update(chunk.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw systemFailure(cause, doing, file.name);
  }
  return hash.digest('hex');
}
