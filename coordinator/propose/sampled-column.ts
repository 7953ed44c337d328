/** The first rows of a log, column by column, from which a config is proposed. */

import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import type { LogFile } from '../logs/log-files.js';
import { requireHeaderFirst } from '../logs/log-columns.js';
import { firstRowsSql } from '../logs/log-reading.js';

/** A column of the first rows of a log. An empty field is null. */
export interface SampledColumn {
  readonly name: string;
  /** DuckDB's type if the file has one; null for text. */
  readonly type: string | null;
  readonly values: readonly (string | null)[];
}

export const SAMPLED_ROWS_MAX = 50_000;

/** @throws QianmoError of kind `data` if the file has no rows, or no header in its first line. */
export async function sampleColumns(file: LogFile, session: DuckSession): Promise<SampledColumn[]> {
  const { columns, sql } = await firstRowsSql(file, SAMPLED_ROWS_MAX, session);
  const rows = await session.rows(sql);
  if (columns.length === 1 || rows.length === 0) await requireHeaderFirst(file, null, session);
  if (rows.length === 0) throw withoutRows(file);
  const sampled = columns.map(({ name, type }, index) => ({
    ...{ name, type },
    values: rows.map((row) => textOrNull(row[index])),
  }));
  if (file.format === 'csv' || file.format === 'tsv') assertNamed(sampled, file);
  return sampled;
}

function withoutRows({ name, format }: LogFile): QianmoError {
  const isOfLines = format === 'jsonl';
  return errorOf('data', 'the log has no rows', {
    where: name,
    expected: isOfLines ? 'one JSON object per line' : 'a header and at least one row',
    cure: isOfLines
      ? `name a file with rows; jq makes lines of an array: jq -c '.[]' ${name}`
      : 'name a file with rows',
  });
}

/** Fails if the first line looks like the others: half of its fields occur again below. */
function assertNamed(columns: readonly SampledColumn[], { name: where }: LogFile): void {
  const asValues = columns.filter(({ name, values }) => values.includes(name));
  if (asValues.length < 2 || asValues.length * 2 < columns.length) return;
  throw errorOf('data', 'the first line of a log is not its header', {
    where,
    expected: 'the names of the columns',
    found: `values that other lines have too: ${asValues.map(({ name }) => name).join(', ')}`,
    cure: 'write a line with the names of the columns above it',
  });
}

function textOrNull(cell: unknown): string | null {
  return typeof cell === 'string' && cell !== '' ? cell : null;
}
