/**
 * Analyses the SQL expressions of a config: the columns that they name and the type of each text column.
 * Types are inferred from every row, never from a sample, so that `rating >= 4` cannot round 3.5.
 */

import { QianmoError, errorOf } from '../../shared/base/errors.js';
import type { ColumnTypes } from '../../shared/features/encoding-rules.js';
import { type DuckSession, shortDuckMessage } from './duckdb-session.js';
import type { LogColumn } from './log-columns.js';
import { identifier, literal } from './sql.js';

/** SQL of a text as a whole number of 64 bits; null where it is none, or is written with zeros before it. */
function wholeNumberSql(text: string): string {
  return `CASE WHEN regexp_full_match(${text}, '-?(0|[1-9][0-9]{0,18})') THEN TRY_CAST(${text} AS BIGINT) END`;
}

export interface ConfigExpression {
  readonly sql: string;
  readonly configPath: string;
  /** True if its value must be true or false. */
  readonly isCondition?: boolean;
}

/** True if a field of a config, which may name columns, computes its value instead. */
export function isComputed(
  field: string | readonly string[] | { readonly expression: string } | undefined,
): field is { readonly expression: string } {
  return typeof field === 'object' && 'expression' in field;
}

/**
 * The columns that an expression names, as written.
 * @throws QianmoError of kind `usage` if it is not a single SQL expression.
 */
export async function columnsNamedIn(
  expression: ConfigExpression,
  session: DuckSession,
): Promise<string[]> {
  const [text] = await session.row(
    `SELECT CAST(json_serialize_sql(${literal(`SELECT (${expression.sql})`)}) AS VARCHAR)`,
  );
  // DuckDB's JSON of the parsed statement. Nothing is assumed about its shape below.
  const parsed = JSON.parse(String(text)) as {
    error: boolean;
    error_message?: string;
    statements?: unknown[];
  };
  if (parsed.error || parsed.statements?.length !== 1)
    throw badExpression(expression, parsed.error_message ?? 'not one expression');
  const names = new Set<string>();
  collectColumns(parsed.statements, names);
  return [...names];
}

function collectColumns(node: unknown, names: Set<string>): void {
  if (typeof node !== 'object' || node === null) return;
  if ('class' in node && node.class === 'COLUMN_REF' && 'column_names' in node) {
    const parts: unknown = node.column_names;
    if (Array.isArray(parts) && parts.length > 0) names.add(String(parts[0]));
    return;
  }
  Object.values(node).forEach((child) => collectColumns(child, names));
}

function badExpression(expression: ConfigExpression, found: string): QianmoError {
  return errorOf('usage', 'an SQL expression of the config is not valid', {
    where: `${expression.configPath}: ${expression.sql}`,
    expected: 'an expression over the columns of the logs, in the SQL of DuckDB',
    found,
    cure: cureOf(expression, found),
  });
}

const PART_OF_TIME =
  /'(?:year|quarter|month|week\w*|day\w*|isodow|dow|doy|hour|minute|second|epoch|date_?part|date_?trunc)\((?:STRING_LITERAL, )?VARCHAR\)'/;
const TEXT_OF_NUMBER = /'(?:lower|upper|trim|replace|split_part|substr\w*)\((?:BIGINT|DOUBLE)\b/;
const FIELD_OF_TEXT = /Cannot extract field '([^']*)' from expression "([^"]*)"/;

/** Cures of the faults that names, texts and numbers of logs make most often, and of all others. */
function cureOf({ configPath }: ConfigExpression, found: string): string {
  if (found.includes('syntax error'))
    return `correct ${configPath}, and put double quotes around names of columns that are words of SQL, such as "at" or "group", or have spaces`;
  const [, field, column] = FIELD_OF_TEXT.exec(found) ?? [];
  if (field !== undefined && column !== undefined)
    return `the column holds texts: of an object in JSON, take a field by ${column} ->> '${field}'`;
  if (PART_OF_TIME.test(found))
    return `the column holds texts that are no timestamps: say how they are written, as in hour(strptime(column, '%d/%m/%Y %H:%M'))`;
  if (TEXT_OF_NUMBER.test(found))
    return 'the column holds numbers: take it as it is, or make texts of it, CAST(column AS VARCHAR)';
  return `correct ${configPath}`;
}

/** A column as expressions see it. */
interface TypedColumn {
  /** SQL over `raw`. */
  readonly sql: string;
  /** True if texts of some rows do not have its type, and are null in it. */
  readonly leavesOut: boolean;
}

/**
 * A column of `raw`, `c3`, cast to the type of its text. The type is a whole
 * number, a number or a truth value only if all rows (but for `exceptionCountMax`) have it. Whole numbers beside other texts are
 * numbers as well, unless these would round one: ids of 17 digits and more would become one another.
 */
export async function typedColumn(
  column: LogColumn,
  index: number,
  exceptionCountMax: number,
  session: DuckSession,
): Promise<TypedColumn> {
  const c = `c${index}`;
  if (column.type !== null) return { sql: c, leavesOut: false };
  const [filled, whole, rounded, finite, number, truth, moment] = (
    await session.row(
      `SELECT CAST(count(${c}) AS DOUBLE), CAST(count(whole) AS DOUBLE),
        CAST(count(*) FILTER (CAST(CAST(whole AS DOUBLE) AS HUGEINT) <> whole) AS DOUBLE),
        CAST(count(*) FILTER (isfinite(number)) AS DOUBLE), CAST(count(number) AS DOUBLE),
        CAST(count(*) FILTER (lower(${c}) IN ('true', 'false')) AS DOUBLE),
        CAST(count(TRY_CAST(${c} AS TIMESTAMPTZ)) AS DOUBLE)
        FROM (SELECT ${c}, ${wholeNumberSql(c)} AS whole, TRY_CAST(${c} AS DOUBLE) AS number FROM raw)`,
    )
  ).map(Number);
  const ofMost = (count: number | undefined, sql: string): TypedColumn[] => {
    const exceptions = (filled ?? 0) - (count ?? 0);
    const isMost = count !== undefined && exceptions < count && exceptions <= exceptionCountMax;
    return isMost ? [{ sql, leavesOut: exceptions > 0 }] : [];
  };
  if (whole === filled) return { sql: `CAST(${c} AS BIGINT)`, leavesOut: false };
  const text = { sql: c, leavesOut: false };
  const isOfLongNumbers = whole === finite && (rounded ?? 0) > 0;
  const doubles = ofMost(number, `TRY_CAST(${c} AS DOUBLE)`);
  const [first] = [
    ...(isOfLongNumbers ? ofMost(whole, wholeNumberSql(c)) : []),
    ...(isOfLongNumbers ? doubles.map(() => text) : doubles),
    ...ofMost(truth, `TRY_CAST(${c} AS BOOLEAN)`),
    ...ofMost(moment, `(TRY_CAST(${c} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')`),
  ];
  return first ?? text;
}

/** SQL for a column of texts as expressions saw it in earlier logs; null where they did not see it. */
export function storedColumnSql(
  index: number,
  stored: ColumnTypes[string] | undefined,
): string | null {
  if (stored?.log !== 'text' || stored.inferred === undefined) return null;
  const c = `c${index}`;
  switch (stored.inferred) {
    case 'VARCHAR':
      return c;
    case 'BIGINT':
      return wholeNumberSql(c);
    case 'TIMESTAMP':
      return `(TRY_CAST(${c} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')`;
    default:
      return `TRY_CAST(${c} AS ${stored.inferred})`;
  }
}

/**
 * The type of an expression over the view `typed_logs`.
 * @throws QianmoError of kind `usage` with the message of DuckDB if it does not bind.
 */
async function typeOfExpression(
  expression: ConfigExpression,
  session: DuckSession,
): Promise<string> {
  try {
    const [type] = await session.row(
      `SELECT column_type FROM (DESCRIBE SELECT (${expression.sql}) AS e FROM typed_logs)`,
    );
    return String(type);
  } catch (cause) {
    if (cause instanceof QianmoError) throw cause;
    throw badExpression(expression, shortDuckMessage(cause));
  }
}

/** @throws QianmoError of kind `usage` if it does not bind, or if a condition is not a truth value. */
export async function requireUsable(
  expression: ConfigExpression,
  session: DuckSession,
): Promise<void> {
  const type = await typeOfExpression(expression, session);
  if (expression.isCondition === true && type !== 'BOOLEAN')
    throw badExpression(expression, `its type is ${type}, not BOOLEAN: it must be true or false`);
}

/**
 * Makes the view `typed_logs`. A column that leaves out texts is a column of texts instead where every expression that names it
 * needs texts: `replace(price, ',', '')` then reads `2,000` among numbers, and `CAST(label AS VARCHAR)` a `yes` among them.
 */
export async function createLogsAsRead(
  columns: readonly LogColumn[],
  typed: ReadonlyMap<number, TypedColumn>,
  expressions: readonly ConfigExpression[],
  session: DuckSession,
): Promise<void> {
  const sqls = new Map([...typed].map(([index, { sql }]) => [index, sql]));
  await createTypedLogs(columns, sqls, session);
  for (const [index, { sql, leavesOut }] of typed) {
    if (!leavesOut) continue;
    const naming: ConfigExpression[] = [];
    for (const expression of expressions) {
      const names = await columnsNamedIn(expression, session);
      if (names.includes(columns[index]?.name ?? '')) naming.push(expression);
    }
    const binding = async (): Promise<number> => (await boundOf(naming, session)).length;
    const areCast = await areCastToTexts(columns[index]?.name ?? '', naming, session);
    if (!areCast && (await binding()) > 0) continue;
    await createTypedLogs(columns, sqls.set(index, `c${index}`), session);
    if ((await binding()) === naming.length) continue;
    await createTypedLogs(columns, sqls.set(index, sql), session);
  }
}

/** Whether the expressions name the column only to make texts of it. */
async function areCastToTexts(
  name: string,
  expressions: readonly ConfigExpression[],
  session: DuckSession,
): Promise<boolean> {
  const cast = `CAST(${identifier(name)} AS VARCHAR)`;
  for (const expression of expressions) {
    const sql = expression.sql.replaceAll(cast, 'NULL');
    if ((await columnsNamedIn({ ...expression, sql }, session)).includes(name)) return false;
  }
  return true;
}

async function boundOf(
  expressions: readonly ConfigExpression[],
  session: DuckSession,
): Promise<ConfigExpression[]> {
  const bound: ConfigExpression[] = [];
  for (const expression of expressions)
    try {
      await typeOfExpression(expression, session);
      bound.push(expression);
    } catch (error) {
      if (!(error instanceof QianmoError) || error.kind !== 'usage') throw error;
    }
  return bound;
}

/**
 * The view `typed_logs`: the row's number, raw values as `qm$0`, ..., and typed columns by name.
 * @throws QianmoError of kind `usage` if SQL cannot tell two of the names apart.
 */
async function createTypedLogs(
  columns: readonly LogColumn[],
  typedByIndex: ReadonlyMap<number, string>,
  session: DuckSession,
): Promise<void> {
  requireNamesApart(columns.flatMap(({ name }, index) => (typedByIndex.has(index) ? [name] : [])));
  const fields = columns.flatMap((column, index) => {
    const typed = typedByIndex.get(index);
    const raw = `c${index} AS "qm$${index}"`;
    return typed === undefined ? [raw] : [raw, `${typed} AS ${identifier(column.name)}`];
  });
  await session.run(
    `CREATE OR REPLACE VIEW typed_logs AS SELECT rowid AS "qm$row", ${fields.join(', ')} FROM raw`,
  );
}

/** A name of SQL, which folds the letters of ASCII alone: `Été` and `été` are two. */
function foldedName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

function requireNamesApart(names: readonly string[]): void {
  for (const [index, name] of names.entries()) {
    const earlier = names.slice(0, index).find((e) => foldedName(e) === foldedName(name));
    if (earlier !== undefined)
      throw errorOf('usage', 'expressions name two columns of the logs that differ only in case', {
        where: 'data',
        expected: 'names that SQL, which does not heed case, can tell apart',
        found: `"${earlier}" and "${name}"`,
        cure: 'rename one of them in the logs, or name one without an expression',
      });
  }
}
