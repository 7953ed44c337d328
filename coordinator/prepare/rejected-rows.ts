/** Rejected rows: counts and bounds them, and writes them with file, line and reason. */

import { at, spanAt } from '../../shared/base/arrays.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { linesOf, unreadableLog } from '../logs/log-columns.js';
import type { LogFile } from '../logs/log-files.js';
import type { RawLogs } from '../logs/log-reading.js';
import { writeStoreFile } from './row-file-writer.js';

export const REJECTS_FILE = 'rejects.jsonl';

interface Reject {
  readonly fileIndex: number;
  /** The line from 1; null for Parquet, and if quotes make lines uncountable. */
  readonly line: number | null;
  /** The number of the row in the logs; null for a line that is not a row. */
  readonly row: number | null;
  readonly reason: string;
  /** The number of rows that are rejected for the same reason, but for the value that they hold. */
  readonly alikeCount?: number;
}

const NAMED_IN_ERROR = 5;

/** A reason without the value that was found: all rows of one kind have it in common. */
const KIND_OF_REASON = `split_part(reason, ' holds ', 1)`;

/**
 * The rejects, at most `rejectedRowsMax` of them.
 * @throws QianmoError of kind `data` if there are more, or if there is no other row.
 */
export async function collectRejects(
  files: readonly LogFile[],
  logs: RawLogs & { readonly isAnyRowRefused: boolean },
  rejectedRowsMax: number,
  session: DuckSession,
): Promise<Reject[]> {
  await session.run(
    `CREATE TABLE rejected AS SELECT row, reason FROM judged
      WHERE ${logs.isAnyRowRefused ? 'kept AND reason IS NOT NULL' : 'false'} ORDER BY row`,
  );
  const [malformedCount, refusedCount] = (
    await session.row(
      `SELECT CAST((SELECT count(*) FROM malformed) AS DOUBLE),
        CAST((SELECT count(*) FROM rejected) AS DOUBLE)`,
    )
  ).map(Number);
  const count = (malformedCount ?? 0) + (refusedCount ?? 0);
  const isTooMany = count > rejectedRowsMax;
  const limit = isTooMany ? NAMED_IN_ERROR : rejectedRowsMax;
  const malformed = await session.rows(
    `SELECT file::DOUBLE, line::DOUBLE, reason FROM malformed ORDER BY file, line LIMIT ${limit}`,
  );
  // The first of every kind comes before the second of any, so that an error shows all that is wrong.
  const refused = await session.rows(
    isTooMany
      ? `SELECT row::DOUBLE, reason, CASE WHEN place = 1 THEN alike::DOUBLE END FROM
          (SELECT *, row_number() OVER (PARTITION BY ${KIND_OF_REASON} ORDER BY row) AS place,
            count(*) OVER (PARTITION BY ${KIND_OF_REASON}) AS alike FROM rejected)
          ORDER BY place, row LIMIT ${limit}`
      : `SELECT row::DOUBLE, reason FROM rejected ORDER BY row LIMIT ${limit}`,
  );
  const lines = await lineNumbers(
    files,
    logs,
    {
      rows: refused.map(([row]) => Number(row)),
      malformed: malformed.map(([file, line]) => ({ fileIndex: Number(file), line: Number(line) })),
    },
    session,
  );
  const rejects: Reject[] = [
    ...malformed.map(([file, line, reason]) => ({
      fileIndex: Number(file),
      line: lines.ofRecord(Number(file), Number(line)),
      row: null,
      reason: String(reason),
    })),
    ...refused.map(([row, reason, alike]) => ({
      fileIndex: fileOf(Number(row), logs),
      line: lines.ofRow(Number(row)),
      row: Number(row),
      reason: String(reason),
      ...(typeof alike === 'number' && alike > 1 ? { alikeCount: alike } : {}),
    })),
  ].sort((a, b) => a.fileIndex - b.fileIndex || (a.line ?? 0) - (b.line ?? 0));
  if (isTooMany || (count > 0 && (await isNoneAccepted(session))))
    throw unusableLogs(
      `${counted(count, 'rejected row')}, the first of them:\n${firstOf(rejects, files)}`,
      isTooMany ? rejectedRowsMax : null,
    );
  return rejects;
}

interface RejectedAlike {
  /** That of the first of these rows, with the value that it holds. */
  readonly reason: string;
  readonly rowCount: number;
}

/** Rows that are rejected for one reason, whatever values they hold, the commonest reason first. */
export function rejectsByReason(rejects: readonly Pick<Reject, 'reason'>[]): RejectedAlike[] {
  const alike = new Map<string, { readonly reason: string; rowCount: number }>();
  for (const { reason } of rejects) {
    const [kind = reason] = reason.split(' holds ');
    const found = alike.get(kind) ?? { reason, rowCount: 0 };
    found.rowCount += 1;
    alike.set(kind, found);
  }
  return [...alike.values()].sort((a, b) => b.rowCount - a.rowCount);
}

/** The event about rejected rows, whose list is a file of the store; none without any. */
export function rejectedRowsEvents(
  rejects: readonly Pick<Reject, 'reason'>[],
  file: string,
): RunEvent[] {
  const [commonest] = rejectsByReason(rejects);
  if (commonest === undefined) return [];
  const alike = rejects.length === 1 ? '' : `, ${commonest.rowCount} of them alike`;
  const text = `${counted(rejects.length, 'row')} rejected${alike}: ${commonest.reason}; see ${file} in the store`;
  return [warningEvent('rows-rejected', text)];
}

const FROM_START = { firstRow: 0, alsoSql: '' };

/**
 * Creates the view `accepted`: the rows of `judged` that pass `where` and are not rejected. Rejected rows are
 * few, so it looks them up instead of judging every row again.
 *
 * @param firstRow the number of the first row of the logs.
 * @param alsoSql SQL of earlier rows.
 */
export async function createAcceptedView(
  rejects: readonly Reject[],
  session: DuckSession,
  { firstRow, alsoSql }: { readonly firstRow: number; readonly alsoSql: string } = FROM_START,
): Promise<void> {
  const isAnyRefused = rejects.some(({ row }) => row !== null);
  await session.run(
    `CREATE VIEW accepted AS SELECT * EXCLUDE (kept, reason)
      ${firstRow === 0 ? '' : `REPLACE (row + ${firstRow} AS row)`} FROM judged
      ${isAnyRefused ? 'ANTI JOIN rejected USING (row)' : ''} WHERE kept ${alsoSql}`,
  );
}

async function isNoneAccepted(session: DuckSession): Promise<boolean> {
  return (
    (await session.row('SELECT true FROM judged WHERE kept AND reason IS NULL LIMIT 1')).length ===
    0
  );
}

/** @param rejectedRowsMax null if no row at all is accepted. */
function unusableLogs(found: string, rejectedRowsMax: number | null): QianmoError {
  const cure =
    'correct the logs or the fields that read them (task, label, time and features may be an SQL expression)';
  if (rejectedRowsMax === null)
    return errorOf('data', 'no row of the logs can be used', {
      where: 'data.logs',
      expected: 'at least one row that is accepted',
      ...{ found, cure },
    });
  return errorOf('data', 'more rows are rejected than the config allows', {
    where: 'data.rejectedRowsMax',
    expected: `at most ${counted(rejectedRowsMax, 'rejected row')}`,
    ...{ found, cure: `${cure}, or raise data.rejectedRowsMax` },
  });
}

function firstOf(rejects: readonly Reject[], files: readonly LogFile[]): string {
  const lines = rejects.slice(0, NAMED_IN_ERROR).map((reject) => {
    const place = reject.line === null ? `row ${reject.row ?? '?'}` : `line ${reject.line}`;
    const alike =
      reject.alikeCount === undefined
        ? ''
        : ` (one of ${reject.alikeCount.toLocaleString('en')} such rows)`;
    return `    ${files[reject.fileIndex]?.name ?? '?'}, ${place}: ${reject.reason}${alike}`;
  });
  return lines.join('\n');
}

/** Where a row of the logs is, for messages. Rows are counted from 1 within their file. */
export function placeOfRow(row: number, logs: RawLogs, files: readonly LogFile[]): string {
  const fileIndex = fileOf(row, logs);
  return `${files[fileIndex]?.name ?? '?'}, row ${row - at(logs.rowStarts, fileIndex) + 1}`;
}

function fileOf(row: number, logs: RawLogs): number {
  let fileIndex = 0;
  for (let next = 0; next + 1 < logs.rowStarts.length; next += 1)
    if (at(logs.rowStarts, next) <= row) fileIndex = next;
  return fileIndex;
}

interface LineNumbers {
  /** Null for Parquet, and if stray quotes would make it a guess. */
  ofRow(row: number): number | null;
  /** The line for DuckDB's number of a malformed line, which only counts lines outside quotes. */
  ofRecord(fileIndex: number, duckLine: number): number;
}

/** The rejects whose lines are wanted. */
interface WantedLines {
  readonly rows: readonly number[];
  /** Lines that are not rows, by DuckDB's number. */
  readonly malformed: readonly { readonly fileIndex: number; readonly line: number }[];
}

async function lineNumbers(
  files: readonly LogFile[],
  logs: RawLogs,
  { rows, malformed }: WantedLines,
  session: DuckSession,
): Promise<LineNumbers> {
  const byRow = new Map<number, number>();
  const byRecord = new Map<string, number>();
  for (const [fileIndex, file] of files.entries()) {
    const rowsHere = rows.filter((row) => fileOf(row, logs) === fileIndex);
    const linesHere = malformed.filter((reject) => reject.fileIndex === fileIndex);
    if (file.format === 'parquet' || rowsHere.length + linesHere.length === 0) continue;
    const [start, end] = spanAt(logs.rowStarts, fileIndex);
    const rowCount = end - start;
    await numberLines(file, fileIndex, session);
    const [recordCount] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM records');
    if (recordCount === rowCount) {
      for (const [record, line] of await session.rows(
        `SELECT record::DOUBLE, line::DOUBLE FROM records
          WHERE record IN (${[-1, ...rowsHere.map((row) => row - start)].join(', ')})`,
      ))
        byRow.set(Number(record) + start, Number(line));
      for (const [duckLine, line] of await session.rows(
        `SELECT duck_line::DOUBLE, line::DOUBLE FROM starts
          WHERE duck_line IN (${[-1, ...linesHere.map(({ line }) => line)].join(', ')})`,
      ))
        byRecord.set(`${fileIndex}/${Number(duckLine)}`, Number(line));
    }
    await session.run('DROP TABLE records; DROP TABLE starts; DROP TABLE numbered');
  }
  return {
    ofRow: (row) => byRow.get(row) ?? null,
    ofRecord: (fileIndex, duckLine) => byRecord.get(`${fileIndex}/${duckLine}`) ?? duckLine,
  };
}

/**
 * Creates the tables `starts`, of lines before which all quotes are closed, and `records`, of those that
 * became rows, by place. This takes a pass over the file, so it is done only if something is rejected.
 */
async function numberLines(file: LogFile, fileIndex: number, session: DuckSession): Promise<void> {
  const isJson = file.format === 'jsonl';
  await session
    .run(`CREATE TABLE numbered AS SELECT line AS text FROM ${linesOf(file)}`)
    .catch((cause: unknown) => {
      throw unreadableLog(file, cause);
    });
  const quotes = isJson ? '0' : `length(text) - length(replace(text, '"', ''))`;
  await session.run(
    `CREATE TABLE starts AS
      SELECT line, text, row_number() OVER (ORDER BY line) AS duck_line FROM
        (SELECT rowid + 1 AS line, text, sum(${quotes}) OVER (ORDER BY rowid
          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS quotes_before FROM numbered)
      WHERE coalesce(quotes_before, 0) % 2 = 0`,
  );
  await session.run(
    `CREATE TABLE records AS
      SELECT line, row_number() OVER (ORDER BY line) - 1 AS record FROM starts
      WHERE trim(coalesce(text, '')) <> '' ${isJson ? '' : 'AND line > 1'}
        AND duck_line NOT IN (SELECT line FROM malformed WHERE file = ${fileIndex})`,
  );
}

export async function writeRejects(
  folder: string,
  rejects: readonly Reject[],
  files: readonly LogFile[],
): Promise<void> {
  const lines = rejects.map(({ fileIndex, line, row, reason }) =>
    JSON.stringify({ file: files[fileIndex]?.name ?? null, line, row, reason }),
  );
  await writeStoreFile(folder, REJECTS_FILE, lines.map((line) => `${line}\n`).join(''));
}
