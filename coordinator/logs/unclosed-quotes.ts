/**
 * Finds quotes of a delimited log that are not closed. DuckDB takes the rows after one for its text, up to the next quote or
 * a later buffer, and tells of a single rejected line.
 */

import { QianmoError } from '../../shared/base/errors.js';
import { counted } from '../../shared/names/counted.js';
import type { DuckSession } from './duckdb-session.js';
import { linesOf } from './log-columns.js';
import type { LogFile } from './log-files.js';

/** Settings of DuckDB that read the same rows again. With `ignore_errors` it leaves out more of them. */
export const REJECTING_AGAIN = `store_rejects = true, rejects_table = 'quote_errors', rejects_scan = 'quote_scans'`;

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
export async function demandClosedQuotes(
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
  throw new QianmoError({
    kind: 'data',
    what: 'a quote in a log is not closed',
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
