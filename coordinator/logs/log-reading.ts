/**
 * Reads the logs once into DuckDB's table `raw`: the used columns as `c0`, `c1`, ..., in order of
 * reading, so that `rowid` is the number of the row. Lines that are not rows go to `malformed`.
 */

import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import { at } from '../../shared/base/arrays.js';
import {
  columnsOf,
  commonColumns,
  requireHeaderFirst,
  type FileColumns,
  linesOf,
  type LogColumn,
  parquetScan,
  requireColumn,
  separatorIn,
  tooLongIn,
  unreadableLog,
  isOfAnotherType,
  keptRowsSql,
  keptTypesOf,
  type ColumnNeed,
} from './log-columns.js';
import type { DuckSession } from './duckdb-session.js';
import type { LogFile } from './log-files.js';
import { requireShortLines, LINE_BYTE_COUNT_MAX, LineLengths, tooLongLine } from './long-lines.js';
import { identifier, literal } from './sql.js';
import { createReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { systemFailure } from '../../shared/base/system-errors.js';

/** Settings of DuckDB that read the same rows again. With `ignore_errors` it leaves out more of them. */
const REJECTING_AGAIN = `store_rejects = true, rejects_table = 'quote_errors', rejects_scan = 'quote_scans'`;

interface DelimitedScan {
  /** SQL of the rows, with the columns `h0`, `h1`, ..., read with `REJECTING_AGAIN`. */
  readonly scan: string;
  readonly columnCount: number;
}

/**
 * Counts lines if a quoted text is among the rejects of `reject_errors`: those of the file that are in no row, in no text of one, and
 * in no other reject. Two passes over the file, so it is done only then.
 *
 * @throws QianmoError of kind `data` if there are such lines
 */
async function assertClosedQuotes(
  file: LogFile,
  { scan, columnCount }: DelimitedScan,
  session: DuckSession,
): Promise<void> {
  const [quotedLine, rejectCount, linesInRejects] = await session.row(
    `SELECT CAST(min(line) FILTER (WHERE is_quoted) AS DOUBLE), CAST(count(*) AS DOUBLE),
      CAST(coalesce(sum(${lineEndsIn('text')}) FILTER (WHERE NOT is_quoted), 0) AS DOUBLE) FROM
      (SELECT line, rtrim(any_value(csv_line), chr(13) || chr(10)) AS text,
        bool_or(CAST(error_type AS VARCHAR) = 'UNQUOTED VALUE') AS is_quoted FROM reject_errors GROUP BY line)`,
  );
  if (typeof quotedLine !== 'number') return;
  const [lineCount] = await session.row(
    `SELECT CAST(count(*) FILTER (WHERE trim(coalesce(line, '')) <> '') AS DOUBLE) FROM ${linesOf(file)}`,
  );
  const inTexts = Array.from(
    { length: columnCount },
    (_, index) => `coalesce(${lineEndsIn(`h${index}`)}, 0)`,
  ).join(' + ');
  const [rowCount, linesInRows] = await session.row(
    `SELECT CAST(count(*) AS DOUBLE), CAST(coalesce(sum(${inTexts}), 0) AS DOUBLE) FROM ${scan}`,
  );
  await session.run('DROP TABLE quote_errors; DROP TABLE quote_scans');
  const known = [1, rowCount, linesInRows, rejectCount, linesInRejects];
  const swallowed = known.reduce((rest: number, count) => rest - Number(count), Number(lineCount));
  if (swallowed <= 0) return;
  throw errorOf('data', 'a quote in a log is not closed', {
    where: `${file.name}, at or before line ${quotedLine}`,
    expected: 'a quote at the end of each text that begins with one',
    found: `${counted(swallowed, 'line')} after it that would be part of its text`,
    cure: 'close the quote or remove its line; a quote within a quoted text is written twice ("")',
  });
}

/** CR and LF end one line, and either alone does as well. */
function lineEndsIn(text: string): string {
  const ends = `replace(${text}, chr(13) || chr(10), chr(10))`;
  return `(length(${ends}) - length(translate(${ends}, chr(13) || chr(10), '')))`;
}

/** A column that the config uses, and the place in the config that names it. */
export interface ColumnUse {
  readonly name: string;
  readonly configPath: string;
  /** Undefined where all of its text may be read. */
  readonly needs?: ColumnNeed;
}

export interface RawLogs {
  /** In the order of `c0`, `c1`, ... */
  readonly columns: readonly LogColumn[];
  /** First row of each file, and the row after the last. */
  readonly rowStarts: readonly number[];
  readonly rowCount: number;
  /** True if a text column may hold an empty text. Readers of delimited files turn it into null. */
  readonly hasEmptyTexts: boolean;
}

/**
 * @throws QianmoError of kind `data` when the logs are unreadable or empty, `usage` when a column
 * is missing.
 */
export async function readRawLogs(
  files: readonly LogFile[],
  uses: readonly ColumnUse[],
  session: DuckSession,
  sink: RunEventSink,
): Promise<RawLogs> {
  const [first] = files;
  if (first === undefined) throw new Error('there are no log files to read');
  const sources = await columnsByFile(files, uses, session);
  const texts = await commonColumns([...sources.values()], session);
  let columns = await withKeptTypes(texts, uses, [...sources.values()], session);
  let rowStarts: number[];
  try {
    rowStarts = await readFiles(files, { sources, columns }, session, sink);
  } catch (cause) {
    if (!isOfAnotherType(cause)) throw cause;
    columns = texts;
    rowStarts = await readFiles(files, { sources, columns }, session, sink);
  }
  const rowCount = at(rowStarts, files.length);
  const [malformed] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM malformed');
  if (sources.size === 0 || (rowCount === 0 && Number(malformed) === 0))
    throw errorOf('data', 'the logs are empty', {
      where: files
        .map((file) => file.name)
        .slice(0, 5)
        .join(', '),
      expected: 'at least one row',
      found: `${counted(files.length, 'file')} without rows`,
      cure: 'correct data.logs',
    });
  const hasEmptyTexts = files.some(({ format }) => format !== 'csv' && format !== 'tsv');
  return { columns, rowStarts, rowCount, hasEmptyTexts };
}

/** The columns with the types that the first file with rows suggests, if all files are delimited. */
async function withKeptTypes(
  columns: readonly LogColumn[],
  uses: readonly ColumnUse[],
  sources: readonly LogSource[],
  session: DuckSession,
): Promise<readonly LogColumn[]> {
  if (sources.some(({ file: { format } }) => format !== 'csv' && format !== 'tsv')) return columns;
  const needs = uses.map((use) => use.needs);
  for (const source of sources) {
    const rows = await delimitedRows(source, 'ignore_errors = true', session);
    const types = await keptTypesOf(needs, rows, session).catch((cause: unknown) => {
      throw unreadableLog(source.file, cause);
    });
    if (types !== null)
      return columns.map((column, index) => ({ ...column, keptAs: at(types, index) }));
  }
  return columns;
}

interface ReadSources {
  readonly sources: ReadonlyMap<number, LogSource>;
  readonly columns: readonly LogColumn[];
}

/** Makes the tables `raw` and `malformed`. Returns the first row of each file, and the row after the last. */
async function readFiles(
  files: readonly LogFile[],
  { sources, columns }: ReadSources,
  session: DuckSession,
  sink: RunEventSink,
): Promise<number[]> {
  await session.run(
    'CREATE OR REPLACE TABLE malformed (file INTEGER, line BIGINT, reason VARCHAR, text VARCHAR)',
  );
  if (sources.size > 0)
    await session.run(`CREATE OR REPLACE TABLE raw (${columns.map(columnDefinition).join(', ')})`);
  const rowStarts: number[] = [];
  let rowCount = 0;
  for (const [fileIndex, file] of files.entries()) {
    sink({ kind: 'progress', stage: 'read logs', done: fileIndex, total: files.length });
    rowStarts.push(rowCount);
    const source = sources.get(fileIndex);
    if (source === undefined) continue;
    await readWhole(file, () => readFile(source, columns, session));
    const [count] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM raw');
    rowCount = Number(count);
  }
  rowStarts.push(rowCount);
  sink({ kind: 'progress', stage: 'read logs', done: files.length, total: files.length });
  return rowStarts;
}

interface LogSource extends FileColumns {
  readonly fileIndex: number;
  /** Every column of the file, in its order. */
  readonly found: readonly LogColumn[];
}

/** For each file that has any, by its place. */
async function columnsByFile(
  files: readonly LogFile[],
  uses: readonly ColumnUse[],
  session: DuckSession,
): Promise<Map<number, LogSource>> {
  const sources = new Map<number, LogSource>();
  for (const [fileIndex, file] of files.entries()) {
    await requireShortLines(file);
    const found = file.byteCount === 0 ? [] : await columnsOf(file, session);
    if (found.length === 0) {
      await requireWholeFile(file);
      continue;
    }
    const used = await usedColumns(found, uses, file, session);
    sources.set(fileIndex, { file, fileIndex, found, used });
  }
  return sources;
}

/** Reads the file and checks at the same time that it is complete. */
async function readWhole(file: LogFile, read: () => Promise<void>): Promise<void> {
  const failed = new AbortController();
  const [reading, wholeness] = await Promise.allSettled([
    read().catch((cause: unknown) => {
      failed.abort(cause);
      throw isOfAnotherType(cause) ? cause : unreadableLog(file, cause);
    }),
    requireWholeFile(file, failed.signal),
  ]);
  if (wholeness.status === 'rejected' && !failed.signal.aborted) throw wholeness.reason;
  if (reading.status === 'rejected') throw reading.reason;
}

function columnDefinition(column: LogColumn, index: number): string {
  return `c${index} ${column.type ?? column.keptAs ?? 'VARCHAR'}`;
}

async function usedColumns(
  found: readonly LogColumn[],
  uses: readonly ColumnUse[],
  file: LogFile,
  session: DuckSession,
): Promise<LogColumn[]> {
  let known = found;
  if (file.format === 'jsonl' && uses.some(({ name }) => !known.some((c) => c.name === name))) {
    const rows = await session.rows(
      `SELECT DISTINCT unnest(TRY(json_keys(line))) AS name FROM ${linesOf(file)} ORDER BY name`,
    );
    known = rows.map(([name]) => ({ name: String(name), type: null }));
  }
  const missing = uses.find(({ name }) => !known.some((column) => column.name === name));
  if (missing !== undefined) await requireHeaderFirst(file, missing.name, session);
  return uses.map(({ name, configPath }) => requireColumn(known, name, configPath, file.name));
}

async function readFile(
  source: LogSource,
  columns: readonly LogColumn[],
  session: DuckSession,
): Promise<void> {
  const { file, used } = source;
  switch (file.format) {
    case 'csv':
    case 'tsv':
      return readDelimited(source, columns, session);
    case 'jsonl':
      return readJsonLines(source, session);
    case 'parquet':
      return session.run(
        `INSERT INTO raw SELECT ${used.map((column) => identifier(column.name)).join(', ')}
          FROM ${parquetScan(file)}`,
      );
  }
}

/** SQL of the first rows of a file, with all of its columns as texts, and these columns. */
export async function firstRowsSql(
  file: LogFile,
  rowCountMax: number,
  session: DuckSession,
): Promise<{ readonly columns: readonly LogColumn[]; readonly sql: string }> {
  await requireShortLines(file);
  const columns = file.byteCount === 0 ? [] : await columnsOf(file, session);
  if (columns.length === 0) return { columns, sql: 'SELECT 1 WHERE false' };
  const source = { file, fileIndex: 0, found: columns, used: columns };
  const pointers = columns.map(({ name }) => literal(pointerOf(name))).join(', ');
  const rows = {
    csv: async () =>
      `SELECT * FROM ${await delimitedScan(source, 'ignore_errors = true', session)}`,
    tsv: async () =>
      `SELECT * FROM ${await delimitedScan(source, 'ignore_errors = true', session)}`,
    jsonl: () =>
      `SELECT ${columns.map((_, index) => `"values"[${index + 1}] AS h${index}`).join(', ')} FROM
        (SELECT json_extract_string(line, [${pointers}]) AS "values" FROM ${linesOf(file)}
          WHERE TRY(json_type(line)) = 'OBJECT')`,
    parquet: () =>
      `SELECT ${columns.map(({ name }, index) => `CAST(${identifier(name)} AS VARCHAR) AS h${index}`).join(', ')}
        FROM ${parquetScan(file)}`,
  };
  return { columns, sql: `${await rows[file.format]()} LIMIT ${rowCountMax}` };
}

/** SQL of the rows of a delimited file, whose used columns are the texts `t0`, `t1`, ... */
async function delimitedRows(
  source: LogSource,
  settings: string,
  session: DuckSession,
): Promise<string> {
  const { found, used } = source;
  const place = (column: LogColumn): number =>
    found.findIndex((candidate) => candidate.name === column.name);
  const texts = used.map((column, index) => `h${place(column)} AS t${index}`).join(', ');
  return `SELECT ${texts} FROM ${await delimitedScan(source, settings, session)}`;
}

/** SQL of the rows of a delimited file with all of its columns, the texts `h0`, `h1`, ... */
export async function delimitedScan(
  { file, found }: Pick<LogSource, 'file' | 'found'>,
  settings: string,
  session: DuckSession,
): Promise<string> {
  const separator = await separatorIn(file, session);
  const columns = found.map((_, index) => `'h${index}': 'VARCHAR'`).join(', ');
  return `read_csv(${literal(file.path)}, columns = {${columns}}, auto_detect = false,
      header = true, delim = ${literal(separator)}, quote = '"', escape = '"', nullstr = '',
      buffer_size = ${LINE_BYTE_COUNT_MAX}, ${settings})`;
}

async function readDelimited(
  source: LogSource,
  columns: readonly LogColumn[],
  session: DuckSession,
): Promise<void> {
  const { file, fileIndex } = source;
  const types = columns.map(({ keptAs }) => keptAs ?? 'VARCHAR');
  const reading = async (settings: string): Promise<string> =>
    `INSERT INTO raw ${keptRowsSql(types, await delimitedRows(source, settings, session))}`;
  await readWithRejects(file, reading, session);
  const scan = await delimitedScan(source, REJECTING_AGAIN, session);
  await assertClosedQuotes(file, { scan, columnCount: source.found.length }, session);
  await session.run(
    `INSERT INTO malformed
      SELECT ${fileIndex}, line, any_value(lower(error_type) || ': ' || error_message),
        any_value(csv_line) FROM reject_errors GROUP BY line ORDER BY line`,
  );
  await session.run('DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans');
}

/**
 * Reads a file, and what is no row of it into the table `reject_errors`. Where DuckDB stores rejects, it leaves out lines
 * much longer than its buffer without a word. Lines of Zstandard are not measured before, so that they are read without.
 *
 * @param reading SQL with settings of the reader
 * @throws QianmoError of kind `data` for a line that is too long.
 */
async function readWithRejects(
  file: LogFile,
  reading: (settings: string) => Promise<string> | string,
  session: DuckSession,
): Promise<void> {
  await session.run('DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans');
  if (/\.zstd?$/i.test(file.path)) {
    const failed = await session.run(await reading('store_rejects = false')).then(
      () => false,
      (cause: unknown) => {
        if (isOfAnotherType(cause)) throw cause;
        const tooLong = tooLongIn(file, cause);
        if (tooLong !== null) throw tooLong;
        return true;
      },
    );
    if (!failed)
      return session.run(
        'CREATE TABLE reject_errors (line BIGINT, error_type VARCHAR, error_message VARCHAR, csv_line VARCHAR)',
      );
  }
  const rejects = `store_rejects = true, rejects_table = 'reject_errors', rejects_scan = 'reject_scans'`;
  await session.run(await reading(rejects));
  await requireNoLongRecord(file, session);
}

/** @throws QianmoError of kind `data` for a row that DuckDB refuses for its size: it leaves out others of this size silently. */
async function requireNoLongRecord(file: LogFile, session: DuckSession): Promise<void> {
  const [message] = await session.row(
    `SELECT 'on Line: ' || line || ': ' || error_message FROM reject_errors
      WHERE CAST(error_type AS VARCHAR) = 'LINE SIZE OVER MAXIMUM' ORDER BY line LIMIT 1`,
  );
  if (message !== undefined) throw unreadableLog(file, new Error(String(message)));
}

/** A JSON pointer, as DuckDB takes it. */
export function pointerOf(name: string): string {
  return `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

async function readJsonLines(
  { file, fileIndex, used }: LogSource,
  session: DuckSession,
): Promise<void> {
  const pointers = used.map((column) => literal(pointerOf(column.name))).join(', ');
  const values = used.map((_, index) => `"values"[${index + 1}]`).join(', ');
  const reading = (settings: string): string =>
    `CREATE OR REPLACE TABLE lines AS SELECT line, TRY(json_type(line)) = 'OBJECT' AS good
      FROM ${linesOf(file, `, ${settings}`)}`;
  await readWithRejects(file, reading, session);
  await session.run(
    `INSERT INTO malformed SELECT ${fileIndex}, line, 'not a JSON object', any_value(csv_line)
      FROM reject_errors GROUP BY line ORDER BY line`,
  );
  await session.run('DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans');
  await session.run(
    `INSERT INTO malformed SELECT ${fileIndex}, rowid + 1, 'not a JSON object', line FROM lines
      WHERE good IS DISTINCT FROM true AND trim(coalesce(line, '')) <> '' ORDER BY rowid`,
  );
  await session.run(
    `INSERT INTO raw SELECT ${values} FROM
      (SELECT json_extract_string(line, [${pointers}]) AS "values" FROM lines WHERE good)`,
  );
  await session.run('DROP TABLE lines');
}

const CHUNK_BYTE_COUNT = 1024 * 1024;

/**
 * Runs while the file is read. A gzip file is decompressed once more on another thread; of a Zstandard file
 * only the block headers are read. Other files pass at once.
 *
 * @throws QianmoError of kind `data` if the end is missing, the checksum of gzip does not match or a line is too
 *   long; the reason of the signal if it aborts.
 */
export async function requireWholeFile(
  file: Pick<LogFile, 'path' | 'name'> & Partial<Pick<LogFile, 'format'>>,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  const { path, name } = file;
  const lines = new LineLengths();
  try {
    if (/\.gz$/i.test(path)) await decompress(path, lines, signal);
    else if (/\.zstd?$/i.test(path) && !(await endsWithFrame(path, signal))) throw cutShort(name);
  } catch (cause) {
    signal.throwIfAborted();
    const code = cause instanceof Error && 'code' in cause ? cause.code : null;
    if (code === 'Z_BUF_ERROR') throw cutShort(name);
    if (code === 'Z_DATA_ERROR') throw damageError(name, cause);
    throw systemFailure(cause, 'reading a log file', name);
  }
  if (lines.tooLong !== null) throw tooLongLine(file, null, lines.tooLong);
}

async function decompress(path: string, lines: LineLengths, signal: AbortSignal): Promise<void> {
  const nowhere = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      lines.add(chunk);
      done();
    },
  });
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTE_COUNT });
  await pipeline(source, createGunzip({ chunkSize: CHUNK_BYTE_COUNT }), nowhere, { signal });
}

const FRAME_MAGIC = 0xfd2fb528;
/** The low four bits are the writer's. */
const SKIPPABLE_FRAME_MAGIC = 0x184d2a50;
const DICTIONARY_ID_BYTE_COUNTS = [0, 1, 2, 4];
const BLOCK_HEADER_BYTE_COUNT = 3;
const BLOCK_KIND_REPEATED_BYTE = 1;

/**
 * Returns whether the file consists of frames of RFC 8878 from start to end. A file without any frame is left for
 * the reader to refuse.
 */
async function endsWithFrame(path: string, signal: AbortSignal): Promise<boolean> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    let offset = 0;
    while (offset < size) {
      signal.throwIfAborted();
      const end = await frameEnd(file, offset);
      if (end === null) return true;
      offset = end;
    }
    return offset === size;
  } finally {
    await file.close();
  }
}

/**
 * The offset after the frame, which is beyond the end of a truncated file; null if there is no
 * frame.
 */
async function frameEnd(file: FileHandle, start: number): Promise<number | null> {
  const header = await bytesAt(file, start, 5);
  const magic = header.readUInt32LE(0);
  if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_FRAME_MAGIC)
    return start + 8 + (await bytesAt(file, start + 4, 4)).readUInt32LE(0);
  if (magic !== FRAME_MAGIC) return null;
  const descriptor = header.readUInt8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const contentSizeByteCount = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 2 ** sizeFlag;
  const dictionaryIdByteCount = at(DICTIONARY_ID_BYTE_COUNTS, descriptor & 3);
  let offset = start + 5 + (isSingleSegment ? 0 : 1) + dictionaryIdByteCount + contentSizeByteCount;
  for (let isLast = false; !isLast;) {
    const block = await file.read(Buffer.alloc(BLOCK_HEADER_BYTE_COUNT), 0, 3, offset);
    if (block.bytesRead < BLOCK_HEADER_BYTE_COUNT) return Number.POSITIVE_INFINITY;
    const value = block.buffer.readUIntLE(0, BLOCK_HEADER_BYTE_COUNT);
    isLast = (value & 1) === 1;
    const kind = (value >> 1) & 3;
    offset += BLOCK_HEADER_BYTE_COUNT + (kind === BLOCK_KIND_REPEATED_BYTE ? 1 : value >> 3);
  }
  return offset + ((descriptor & 0x04) === 0 ? 0 : 4);
}

/** Reads zeros beyond the end of the file. */
async function bytesAt(file: FileHandle, offset: number, byteCount: number): Promise<Buffer> {
  const { buffer } = await file.read(Buffer.alloc(byteCount), 0, byteCount, offset);
  return buffer;
}

function cutShort(name: string): QianmoError {
  return errorOf('data', 'a log file is cut short', {
    where: name,
    expected: 'a whole compressed file',
    found: 'a file that ends in the middle',
    cure: 'copy it again from its source',
  });
}

function damageError(name: string, cause: unknown): QianmoError {
  return errorOf('data', 'a log file cannot be read', {
    where: name,
    expected: 'a whole file compressed by gzip',
    cure: 'check that its name says what it is, or copy it again from its source',
    cause,
  });
}
