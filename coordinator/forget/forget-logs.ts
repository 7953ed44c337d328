/** Writes logs again without some of their rows. A file is replaced whole, or not at all. */

import { createWriteStream } from 'node:fs';
import { chmod, open, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { QianmoError } from '../../shared/base/errors.js';
import { syncFolder } from '../../shared/storage/file-bytes.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { COMPRESSED } from '../logs/decompression.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { columnsOf, parquetScan, requireColumn, separatorIn } from '../logs/log-columns.js';
import type { LogFile } from '../logs/log-files.js';
import { identifier, literal } from '../logs/sql.js';
import {
  bytesOf,
  delimitedTest,
  jsonTest,
  recordsOf,
  type Forgotten,
  type RowTest,
} from './kept-records.js';

/** A file with rows to forget. */
export interface FileToRewrite {
  readonly name: string;
  readonly rowCount: number;
  readonly rewrite: () => Promise<void>;
}

export interface ForgetPlace {
  readonly session: DuckSession;
  readonly objectStoreOf: (address: string) => ObjectStore;
}

const WRITTEN_BYTE_COUNT = 256 * 1024;

/** How the kept rows of a file are found and written. */
interface Keeping {
  readonly rowCount: () => Promise<number>;
  readonly write: (to: string) => Promise<void>;
}

/** @throws QianmoError before anything is changed, if one of the files cannot be written again in its form. */
export async function logsToRewrite(
  files: readonly LogFile[],
  forgotten: Forgotten,
  place: ForgetPlace,
): Promise<FileToRewrite[]> {
  for (const { name } of files)
    if (COMPRESSED.test(name) && !/\.gz$/i.test(name)) throw notWritten(name);
  const found: FileToRewrite[] = [];
  for (const file of files) {
    if (file.byteCount === 0) continue;
    const keeping = await keepingOf(file, forgotten, place.session);
    const rowCount = await keeping.rowCount();
    const rewrite = (): Promise<void> => replaced(file, keeping, place);
    if (rowCount > 0) found.push({ name: file.name, rowCount, rewrite });
  }
  return found;
}

async function keepingOf(
  file: LogFile,
  forgotten: Forgotten,
  session: DuckSession,
): Promise<Keeping> {
  // A line of JSON may lack the column that others have.
  if (file.format === 'jsonl') return keepingText(file, jsonTest(forgotten), null);
  const columns = await columnsOf(file, session);
  const { column, value } = forgotten;
  requireColumn(columns, column, forgotten.isAdgroup ? 'data.task' : '--value', file.name);
  if (file.format !== 'parquet') {
    const separator = await separatorIn(file, session);
    const names = columns.map(({ name }) => name);
    return keepingText(file, delimitedTest(forgotten, names, separator), separator);
  }
  const text = `CAST(${identifier(column)} AS VARCHAR)`;
  const scan = `read_parquet(${literal(file.path)}, hive_partitioning = false)`;
  return {
    rowCount: () =>
      session.count(`(SELECT 1 FROM ${parquetScan(file)} WHERE ${text} = ${literal(value)})`),
    async write(to) {
      const [codec] = await session.row(
        `SELECT lower(min(compression)) FROM parquet_metadata(${literal(file.path)})`,
      );
      await session.run(
        `COPY (SELECT * FROM ${scan} WHERE ${text} IS DISTINCT FROM ${literal(value)})
          TO ${literal(to)} (FORMAT parquet, COMPRESSION ${identifier(String(codec ?? 'snappy'))})`,
      );
    },
  };
}

function keepingText(file: LogFile, isForgotten: RowTest, separator: string | null): Keeping {
  const isGzip = /\.gz$/i.test(file.path);
  const records = (): AsyncGenerator<Buffer> =>
    recordsOf(bytesOf(file.path, isGzip), separator, file.name);
  return {
    async rowCount() {
      let count = 0;
      for await (const record of records()) if (isForgotten(record)) count += 1;
      return count;
    },
    async write(to) {
      const kept = async function* (): AsyncGenerator<Buffer> {
        let [held, byteCount] = [[] as Buffer[], 0];
        for await (const record of records()) {
          if (isForgotten(record)) continue;
          held.push(record);
          byteCount += record.length;
          if (byteCount < WRITTEN_BYTE_COUNT) continue;
          yield Buffer.concat(held);
          [held, byteCount] = [[], 0];
        }
        yield Buffer.concat(held);
      };
      await pipeline([
        Readable.from(kept()),
        ...(isGzip ? [createGzip()] : []),
        createWriteStream(to),
      ]);
    },
  };
}

async function replaced(file: LogFile, keeping: Keeping, place: ForgetPlace): Promise<void> {
  if (!file.name.startsWith('s3://')) return replacedHere(file.path, keeping, file.name);
  const cut = file.name.lastIndexOf('/');
  const [store, key] = [place.objectStoreOf(file.name.slice(0, cut)), file.name.slice(cut + 1)];
  const object = await store.get(key);
  if (object === null) throw changedMeanwhile(file.name);
  await writeFile(file.path, object.bytes);
  await replacedHere(file.path, keeping, file.name);
  const written = { kind: 'unchanged', etag: object.etag } as const;
  if ((await store.put(key, await readFile(file.path), written)) === null)
    throw changedMeanwhile(file.name);
}

async function replacedHere(named: string, keeping: Keeping, name: string): Promise<void> {
  const path = await realpath(named);
  // Readers of logs pass over names that begin with a dot. What a kill left there is written over.
  const part = join(dirname(path), `.forget-${basename(path)}`);
  const before = await stat(path);
  try {
    await keeping.write(part);
    await chmod(part, before.mode);
    const written = await open(part, 'r+');
    await written.sync().finally(() => written.close());
    const after = await stat(path);
    if (after.size !== before.size || after.mtimeMs !== before.mtimeMs)
      throw changedMeanwhile(name);
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
  await syncFolder(dirname(path));
}

export function changedMeanwhile(name: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: 'a log was changed while its rows were taken out',
    where: name,
    expected: 'logs that nobody writes meanwhile',
    cure: 'stop what writes it, and run the same command again: it goes on with this file',
  });
}

function notWritten(name: string): QianmoError {
  const ending = name.slice(name.lastIndexOf('.') + 1);
  return new QianmoError({
    kind: 'usage',
    what: `logs compressed as .${ending} are read, but not written again`,
    where: name,
    expected: '.csv, .tsv or .jsonl, also with .gz, or .parquet',
    cure: `compress it again as .gz, remove the old file, and run the same command again; nothing was changed`,
  });
}
