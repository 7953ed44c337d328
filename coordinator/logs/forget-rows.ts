/** Writes logs again without some of their rows. A file is replaced whole, or not at all. */

import { chmod, open, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errorOf, type QianmoError } from '../../shared/base/errors.js';
import { syncFolder } from '../../shared/storage/file-bytes.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { needsDecompression } from './decompression.js';
import type { DuckSession } from './duckdb-session.js';
import { columnsOf, linesOf, requireColumn, separatorIn, unreadableLog } from './log-columns.js';
import type { LogFile } from './log-files.js';
import { delimitedScan, pointerOf } from './log-reading.js';
import { identifier, literal } from './sql.js';

/** Rows to forget: those whose text in a column is the value. */
export interface Forgotten {
  readonly column: string;
  readonly value: string;
  readonly isAdgroup: boolean;
}

export interface FileToRewrite {
  readonly name: string;
  readonly rowCount: number;
  readonly rewrite: () => Promise<void>;
}

export interface ForgetPlace {
  readonly session: DuckSession;
  readonly objectStoreOf: (address: string) => ObjectStore;
}

/** @throws QianmoError before anything is changed, if one of the files cannot be read, or written again in its form. */
export async function logsToRewrite(
  files: readonly LogFile[],
  forgotten: Forgotten,
  place: ForgetPlace,
): Promise<FileToRewrite[]> {
  const unwritten = files.find(({ name }) => needsDecompression(name));
  if (unwritten !== undefined)
    throw errorOf('usage', 'logs in this compression are read, but not written again', {
      where: unwritten.name,
      expected: '.csv, .tsv or .jsonl, also with .gz or .zst, or .parquet',
      cure: 'compress it again as .gz, remove the old file, and run the same command again',
    });
  const found: FileToRewrite[] = [];
  for (const file of files) {
    if (file.byteCount === 0) continue;
    const { rows, text } = await sqlOf(file, forgotten, place.session);
    const rowCount = await place.session
      .count(`(SELECT 1 FROM ${rows} WHERE ${text} = ${literal(forgotten.value)})`)
      .catch((cause: unknown) => {
        throw unreadableLog(file, cause);
      });
    const rewrite = (): Promise<void> => replaced(file, forgotten, place);
    if (rowCount > 0) found.push({ name: file.name, rowCount, rewrite });
  }
  return found;
}

/** SQL of all rows of a file, of the text that is compared, and the settings that write rows in its form, behind a head. */
async function sqlOf(file: LogFile, { column, isAdgroup }: Forgotten, session: DuckSession) {
  const ending = file.path.slice(file.path.lastIndexOf('.') + 1).toLowerCase();
  const compression = { gz: 'gzip', zst: 'zstd', zstd: 'zstd' }[ending] ?? 'none';
  const csv = `FORMAT csv, HEADER false, COMPRESSION ${compression}`;
  if (file.format === 'jsonl')
    return {
      ...{ rows: linesOf(file), settings: `${csv}, QUOTE '', ESCAPE '', DELIMITER E'\\x1f'` },
      text: `TRY(json_extract_string(line, ${literal(pointerOf(column))}))`,
    };
  const found = await columnsOf(file, session);
  requireColumn(found, column, isAdgroup ? 'data.task' : '--value', file.name);
  if (file.format === 'parquet') {
    const rows = `read_parquet(${literal(file.path)}, hive_partitioning = false)`;
    const metadata = `parquet_metadata(${literal(file.path)})`;
    const [codec] = await session.row(`SELECT lower(min(compression)) FROM ${metadata}`);
    const settings = `FORMAT parquet, COMPRESSION ${identifier(String(codec ?? 'snappy'))}`;
    return { rows, text: `CAST(${identifier(column)} AS VARCHAR)`, settings };
  }
  const delimiter = literal(await separatorIn(file, session));
  return {
    rows: await delimitedScan({ file, found }, 'store_rejects = false', session),
    text: `h${found.findIndex(({ name }) => name === column)}`,
    settings: `${csv}, DELIMITER ${delimiter}, QUOTE '"', ESCAPE '"'`,
    head: `SELECT ${found.map(({ name }) => literal(name)).join(', ')} UNION ALL`,
  };
}

async function replaced(file: LogFile, forgotten: Forgotten, place: ForgetPlace): Promise<void> {
  if (!file.name.startsWith('s3://')) return replacedHere(file, forgotten, place);
  const [store, key] = [place.objectStoreOf(dirname(file.name)), basename(file.name)];
  const object = await store.get(key);
  if (object === null) throw changedMeanwhile(file.name);
  await writeFile(file.path, object.bytes);
  await replacedHere(file, forgotten, place);
  const written = await readFile(file.path);
  if ((await store.put(key, written, { kind: 'unchanged', etag: object.etag })) === null)
    throw changedMeanwhile(file.name);
}

async function replacedHere(
  file: LogFile,
  forgotten: Forgotten,
  place: ForgetPlace,
): Promise<void> {
  const path = await realpath(file.path);
  // Readers of logs pass over names that begin with a dot. What a kill left there is written over.
  const part = join(dirname(path), `.forget-${basename(path)}`);
  const before = await stat(path);
  const { rows, text, settings, head = '' } = await sqlOf(file, forgotten, place.session);
  try {
    await place.session.run(
      `COPY (${head} SELECT * FROM ${rows} WHERE ${text} IS DISTINCT FROM ${literal(forgotten.value)})
        TO ${literal(part)} (${settings})`,
    );
    await chmod(part, before.mode);
    const written = await open(part, 'r+');
    await written.sync().finally(() => written.close());
    const { size, mtimeMs } = await stat(path);
    if (size !== before.size || mtimeMs !== before.mtimeMs) throw changedMeanwhile(file.name);
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
  await syncFolder(dirname(path));
}

export function changedMeanwhile(name: string): QianmoError {
  return errorOf('transient', 'a log was changed while its rows were taken out', {
    where: name,
    expected: 'logs that nobody writes meanwhile',
    cure: 'stop what writes it, and run the same command again: it goes on with this file',
  });
}
