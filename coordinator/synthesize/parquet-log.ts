/** Turns a finished CSV log into Parquet with DuckDB. */

import { DuckDBInstance } from '@duckdb/node-api';
import { QianmoError } from '../../shared/base/errors.js';
import { CSV_COLUMNS } from './csv-rows.js';

const MEMORY_LIMIT = '1GB';
const ROW_GROUP_ROWS = 122_880;

const TYPES: Readonly<Record<string, string>> = {
  time: 'BIGINT',
  price: 'DOUBLE',
  p_true: 'DOUBLE',
};

/**
 * Keeps the order of rows.
 *
 * @param shownPath the path that a failure names
 * @throws QianmoError of kind `environment` if the disk has no space for it
 */
export async function convertToParquet(
  csvPath: string,
  parquetPath: string,
  threadCount: number,
  shownPath: string,
): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', {
    memory_limit: MEMORY_LIMIT,
    threads: String(threadCount),
  });
  const connection = await instance.connect();
  try {
    const columns = CSV_COLUMNS.map((name) => `${quoted(name)}: '${TYPES[name] ?? 'INTEGER'}'`);
    await connection.run(
      `COPY (FROM read_csv(${quoted(csvPath)}, header = true, auto_detect = false,
         columns = {${columns.join(', ')}}))
       TO ${quoted(parquetPath)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${ROW_GROUP_ROWS})`,
    );
  } catch (cause) {
    throw isDiskFull(cause) ? diskFull(shownPath, cause) : cause;
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

function isDiskFull(cause: unknown): boolean {
  return cause instanceof Error && /no space left|disk quota|could not write/i.test(cause.message);
}

function diskFull(path: string, cause: unknown): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: 'the disk is full',
    where: path,
    cure: 'free up space or choose a folder on another disk; no partial file was kept',
    cause,
  });
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
