/** Rows that are refused: counted, bounded, and written with file, line and reason. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { QianmoError } from '../../shared/errors.js';
import { systemFailure } from '../../shared/errors-of-system.js';
import type { DuckSession } from './duckdb-session.js';
import { linesOf } from './log-columns.js';
import type { LogFile } from './log-files.js';
import type { RawLogs } from './log-reading.js';

export const REJECTS_FILE = 'rejects.jsonl';

interface Reject {
  readonly fileIndex: number;
  /** From 1; null for Parquet, and where quotes make lines uncountable. */
  readonly line: number | null;
  /** Number in the logs; null for a line that is no row. */
  readonly row: number | null;
  readonly reason: string;
}

const NAMED_IN_ERROR = 5;

/**
 * The rejects, at most `rejectedRowsMax` of them.
 * @throws QianmoError of kind `data` when there are more.
 */
export async function collectRejects(
  files: readonly LogFile[],
  logs: RawLogs,
  rejectedRowsMax: number,
  session: DuckSession,
): Promise<Reject[]> {
  await session.run(
    'CREATE TABLE rejected AS SELECT row, reason FROM judged WHERE kept AND reason IS NOT NULL ORDER BY row',
  );
  const [malformedCount, refusedCount] = (
    await session.row(
      `SELECT CAST((SELECT count(*) FROM malformed) AS DOUBLE),
        CAST((SELECT count(*) FROM rejected) AS DOUBLE)`,
    )
  ).map(Number);
  const count = (malformedCount ?? 0) + (refusedCount ?? 0);
  const limit = count > rejectedRowsMax ? NAMED_IN_ERROR : rejectedRowsMax;
  const malformed = await session.rows(
    `SELECT file::DOUBLE, line::DOUBLE, reason FROM malformed ORDER BY file, line LIMIT ${limit}`,
  );
  const refused = await session.rows(
    `SELECT row::DOUBLE, reason FROM rejected ORDER BY row LIMIT ${limit}`,
  );
  const lines = await linesOfRows(
    files,
    logs,
    refused.map(([row]) => Number(row)),
    session,
  );
  const rejects: Reject[] = [
    ...malformed.map(([file, line, reason]) => ({
      fileIndex: Number(file),
      line: Number(line),
      row: null,
      reason: String(reason),
    })),
    ...refused.map(([row, reason]) => ({
      fileIndex: fileOf(Number(row), logs),
      line: lines.get(Number(row)) ?? null,
      row: Number(row),
      reason: String(reason),
    })),
  ].sort((a, b) => a.fileIndex - b.fileIndex || (a.line ?? 0) - (b.line ?? 0));
  if (count > rejectedRowsMax) throw tooMany(count, rejectedRowsMax, rejects, files);
  return rejects;
}

function tooMany(
  count: number,
  rejectedRowsMax: number,
  rejects: readonly Reject[],
  files: readonly LogFile[],
): QianmoError {
  const first = rejects.slice(0, NAMED_IN_ERROR).map((reject) => {
    const place = reject.line === null ? `row ${reject.row ?? '?'}` : `line ${reject.line}`;
    return `    ${files[reject.fileIndex]?.name ?? '?'}, ${place}: ${reject.reason}`;
  });
  return new QianmoError({
    kind: 'data',
    what: 'more rows are rejected than the config allows',
    where: 'data.rejectedRowsMax',
    expected: `at most ${rejectedRowsMax} rejected rows`,
    found: `${count}, the first of them:\n${first.join('\n')}`,
    cure: 'mend the logs or the fields that read them, or raise data.rejectedRowsMax',
  });
}

function fileOf(row: number, logs: RawLogs): number {
  let fileIndex = 0;
  for (let next = 0; next + 1 < logs.rowStarts.length; next += 1)
    if ((logs.rowStarts[next] ?? 0) <= row) fileIndex = next;
  return fileIndex;
}

/** Line of each row in its file, for text formats. */
async function linesOfRows(
  files: readonly LogFile[],
  logs: RawLogs,
  rows: readonly number[],
  session: DuckSession,
): Promise<Map<number, number>> {
  const found = new Map<number, number>();
  const rowsByFile = new Map<number, number[]>();
  for (const row of rows) {
    const fileIndex = fileOf(row, logs);
    rowsByFile.set(fileIndex, [...(rowsByFile.get(fileIndex) ?? []), row]);
  }
  for (const [fileIndex, wanted] of rowsByFile) {
    const file = files[fileIndex];
    if (file === undefined || file.format === 'parquet') continue;
    const start = logs.rowStarts[fileIndex] ?? 0;
    const rowCount = (logs.rowStarts[fileIndex + 1] ?? 0) - start;
    await numberRecords(file, fileIndex, session);
    const [records] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM records');
    // When the records do not add up (stray quotes), a line would be a guess: none is given.
    if (Number(records) === rowCount)
      for (const [record, line] of await session.rows(
        `SELECT record::DOUBLE, line::DOUBLE FROM records
          WHERE record IN (${wanted.map((row) => row - start).join(', ')})`,
      ))
        found.set(Number(record) + start, Number(line));
    await session.run('DROP TABLE records; DROP TABLE numbered');
  }
  return found;
}

/**
 * The table `records`: each row of the file by its place and the line on which it starts. A record
 * starts on a line that is not empty and before which all quotes are closed.
 */
async function numberRecords(
  file: LogFile,
  fileIndex: number,
  session: DuckSession,
): Promise<void> {
  const isJson = file.format === 'jsonl';
  await session.run(
    `CREATE OR REPLACE TABLE numbered AS SELECT line AS text FROM ${linesOf(file)}`,
  );
  const quotes = isJson ? '0' : `length(text) - length(replace(text, '"', ''))`;
  await session.run(
    `CREATE OR REPLACE TABLE records AS
      SELECT line, row_number() OVER (ORDER BY line) - 1 AS record FROM
        (SELECT rowid + 1 AS line, text, sum(${quotes}) OVER (ORDER BY rowid
          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS quotes_before FROM numbered)
      WHERE coalesce(quotes_before, 0) % 2 = 0 AND trim(coalesce(text, '')) <> ''
        ${isJson ? '' : 'AND line > 1'}
        AND line NOT IN (SELECT line FROM malformed WHERE file = ${fileIndex})`,
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
  const path = join(folder, REJECTS_FILE);
  try {
    await writeFile(path, lines.map((line) => `${line}\n`).join(''));
  } catch (cause) {
    throw systemFailure(cause, 'the rejects cannot be written', path);
  }
}
