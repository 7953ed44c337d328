/**
 * Chooses how a delimited log is kept in memory. Where the config needs no more of a column than its numbers, or
 * its texts are whole numbers, the numbers are kept: they take less space than texts, and are read once.
 *
 * The first rows suggest a type. Every text is held against it while it is read, and the first one that has
 * another type ends the reading (`isOfAnotherType`), so that the log is read again as texts.
 */

import type { DuckSession } from './duckdb-session.js';

/** The part of its texts that a config needs of a column: their spelling, or the number that they are. */
export type ColumnNeed = 'text' | 'number';

/** The types in which texts of logs are kept. */
export type KeptType = 'VARCHAR' | 'INTEGER' | 'BIGINT' | 'DOUBLE';

const SAMPLE_ROW_COUNT = 2048;
const OF_ANOTHER_TYPE = 'a text of the logs has another type than the first ones';

/** @returns whether a failure says that a log must be read as texts. */
export function isOfAnotherType(cause: unknown): boolean {
  return cause instanceof Error && cause.message.includes(OF_ANOTHER_TYPE);
}

/**
 * @param needs of each column; undefined where all of its text may be read
 * @param rows SQL of rows of a log whose columns `t0`, `t1`, ... are texts
 * @returns the type of each column; null without any row
 */
export async function keptTypesOf(
  needs: readonly (ColumnNeed | undefined)[],
  rows: string,
  session: DuckSession,
): Promise<KeptType[] | null> {
  const candidates = needs.map((need): readonly KeptType[] => {
    if (need === undefined) return [];
    return need === 'number' ? ['DOUBLE'] : ['INTEGER', 'BIGINT'];
  });
  const conditions = candidates.flatMap((types, index) =>
    types.map(
      (type) =>
        `count(t${index}) > 0 AND bool_and(t${index} IS NULL OR coalesce(${isSame(index, type)}, false))`,
    ),
  );
  if (conditions.length === 0) return needs.map(() => 'VARCHAR');
  const sampled = `(SELECT *, ${numbersOf(candidates)} FROM (${rows} LIMIT ${SAMPLE_ROW_COUNT}))`;
  const answers = await session.row(
    `SELECT ${[...conditions, 'count(*) > 0'].join(', ')} FROM ${sampled}`,
  );
  if (answers[conditions.length] !== true) return null;
  let place = 0;
  return candidates.map((types) => {
    const fitting = types.filter((_, nth) => answers[place + nth] === true);
    place += types.length;
    return fitting[0] ?? 'VARCHAR';
  });
}

/**
 * SQL of the kept values of rows.
 *
 * @param rows SQL of rows whose columns `t0`, `t1`, ... are texts
 */
export function keptRowsSql(types: readonly KeptType[], rows: string): string {
  const values = types.map((type, index) =>
    type === 'VARCHAR'
      ? `t${index}`
      : `CASE WHEN ${isSame(index, type)} THEN ${numberName(index, type)}
          WHEN t${index} IS NOT NULL THEN error('${OF_ANOTHER_TYPE}') END`,
  );
  const numbers = numbersOf(types.map((type) => (type === 'VARCHAR' ? [] : [type])));
  return `SELECT ${values.join(', ')} FROM ${numbers === '' ? `(${rows})` : `(SELECT *, ${numbers} FROM (${rows}))`}`;
}

function numberName(index: number, type: KeptType): string {
  return `"${type}${index}"`;
}

function numbersOf(types: readonly (readonly KeptType[])[]): string {
  return types
    .flatMap((ofColumn, index) =>
      ofColumn.map((type) => `TRY_CAST(t${index} AS ${type}) AS ${numberName(index, type)}`),
    )
    .join(', ');
}

/** SQL for whether the number says all of the text that is needed. `007` is another text than `7`. */
function isSame(index: number, type: KeptType): string {
  const number = numberName(index, type);
  return type === 'DOUBLE' ? `${number} IS NOT NULL` : `t${index} = CAST(${number} AS VARCHAR)`;
}
