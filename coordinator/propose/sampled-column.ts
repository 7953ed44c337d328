/** The first rows of a log, column by column, from which a config is proposed. */

import { QianmoError } from '../../shared/base/errors.js';
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
  if (columns.length === 1) await requireHeaderFirst(file, null, session);
  const rows = await session.rows(sql);
  if (rows.length === 0)
    throw new QianmoError({
      kind: 'data',
      what: 'the log has no rows',
      where: file.name,
      expected: 'a header and at least one row',
      cure: 'name a file with rows',
    });
  return columns.map(({ name, type }, index) => ({
    ...{ name, type },
    values: rows.map((row) => textOrNull(row[index])),
  }));
}

function textOrNull(cell: unknown): string | null {
  return typeof cell === 'string' && cell !== '' ? cell : null;
}
