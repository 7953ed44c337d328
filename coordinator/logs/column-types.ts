/** One type for each used column over all files, which holds the values of every file unchanged. */

import { QianmoError } from '../../shared/base/errors.js';
import type { DuckSession } from './duckdb-session.js';
import type { LogColumn } from './log-columns.js';
import type { LogFile } from './log-files.js';

export interface FileColumns {
  readonly file: LogFile;
  /** The columns that the config uses, in the order of the config. */
  readonly used: readonly LogColumn[];
}

const NUMERIC = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\))$/;
const LIST = /\]$/;
const NESTED = /\]$|^(STRUCT|MAP|UNION)\b/;

/**
 * Reading a later file into the types of the first would silently round 3.5 to 4. Types that differ
 * become the wider number, or text whose type is inferred from every row.
 *
 * @throws QianmoError of kind `data` if a column is a list in one file and not in another.
 */
export async function commonColumns(
  files: readonly FileColumns[],
  session: DuckSession,
): Promise<LogColumn[]> {
  const names = files[0]?.used.map(({ name }) => name) ?? [];
  const columns: LogColumn[] = [];
  for (const [index, name] of names.entries()) {
    const fileByType = new Map(files.map(({ file, used }) => [used[index]?.type ?? null, file]));
    columns.push({ name, type: await commonType(name, fileByType, session) });
  }
  return columns;
}

async function commonType(
  name: string,
  fileByType: ReadonlyMap<string | null, LogFile>,
  session: DuckSession,
): Promise<string | null> {
  const types = [...fileByType.keys()];
  const [only = null] = types;
  if (types.length === 1) return only;
  const isAll = (kind: RegExp): boolean => types.every((type) => type !== null && kind.test(type));
  if (isAll(NUMERIC) || isAll(LIST)) {
    const each = types.map((type) => `SELECT NULL::${type} AS c`).join(' UNION ALL ');
    const [wider] = await session.row(`SELECT column_type FROM (DESCRIBE ${each})`);
    return String(wider);
  }
  if (types.some((type) => type !== null && NESTED.test(type)))
    throw new QianmoError({
      kind: 'data',
      what: `the column "${name}" has another type in another log file`,
      where: [...fileByType.values()].map((file) => file.name).join(', '),
      expected: 'one type in all files',
      found: types.map((type) => type ?? 'text').join(', '),
      cure: 'write the files again with one type for the column',
    });
  return null;
}
