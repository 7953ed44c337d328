/** A ranking request made of the first rows of a log, so that people see at once what a server is asked. */

import type { DataConfig } from '../../shared/config/data-config.js';
import { columnsNamedIn, isComputed, typedColumn } from '../logs/expressions.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import type { LogColumn } from '../logs/log-columns.js';
import type { LogFile } from '../logs/log-files.js';
import { firstRowsSql } from '../logs/log-reading.js';
import { identifier } from '../logs/sql.js';
import { SAMPLED_ROWS_MAX } from './sampled-column.js';

type Value = string | number | boolean | null | readonly string[];
type Values = Readonly<Record<string, Value>>;

interface ExampleRequest {
  /** The body of `POST /v1/rank`. */
  readonly body: {
    readonly context: Values;
    readonly candidates: readonly {
      readonly adgroup: string | readonly string[];
      readonly features: Values;
    }[];
  };
  /** The candidates in words. */
  readonly names: readonly string[];
}

const CANDIDATE_COUNT = 3;
const KEY_SEPARATOR = '\u001f';

interface ExampleSource {
  readonly file: LogFile;
  readonly session: DuckSession;
  /** Has a name for each adgroup; keys are names if absent. */
  readonly nameColumn: string | undefined;
}

/**
 * Asks for the adgroups with most rows, for one of these rows. Columns that are the same in all rows of an adgroup
 * describe candidates, the others the context.
 *
 * @returns null if no row names an adgroup
 */
export async function exampleRequest(
  data: Pick<DataConfig, 'task' | 'features'>,
  { file, session, nameColumn }: ExampleSource,
): Promise<ExampleRequest | null> {
  const { columns, sql } = await firstRowsSql(file, SAMPLED_ROWS_MAX, session);
  const texts = columns.map((_, index) => `h${index} AS c${index}`).join(', ');
  await session.run(`CREATE OR REPLACE TABLE raw AS SELECT ${texts} FROM (${sql})`);
  await session.run(
    `CREATE OR REPLACE VIEW keyed AS SELECT *, ${await keySql(data.task, columns, session)} AS key FROM raw`,
  );
  const used = await usedColumns(data.features, columns, session);
  const counted = used.map((index) => `max(n${index})::DOUBLE`);
  const counts = used.map((index) => `count(DISTINCT c${index}) AS n${index}`);
  const mostValues =
    used.length === 0
      ? []
      : await session.row(
          `SELECT ${counted.join(', ')} FROM (SELECT ${counts.join(', ')} FROM keyed WHERE key IS NOT NULL GROUP BY key)`,
        );
  const own = used.filter((_, place) => Number(mostValues[place]) <= 1);
  const ofContext = used.filter((index) => !own.includes(index));
  const named = columns.findIndex(({ name }) => name === nameColumn);
  const largest = await session.rows(
    `SELECT ${['key', `min(${named < 0 ? 'key' : `c${named}`})`, ...own.map((index) => `min(c${index})`)].join(', ')}
      FROM keyed WHERE key IS NOT NULL GROUP BY key ORDER BY count(*) DESC, key LIMIT ${CANDIDATE_COUNT}`,
  );
  if (largest.length === 0) return null;
  const [row = []] = await session.rows(
    `SELECT ${['key', ...ofContext.map((index) => `c${index}`)].join(', ')} FROM keyed WHERE key IS NOT NULL
      ORDER BY ${['0', ...ofContext.map((index) => `(c${index} IS NULL)::INTEGER`)].join(' + ')} LIMIT 1`,
  );
  const valuesOf = (indices: readonly number[], cells: readonly unknown[]): Values =>
    Object.fromEntries(
      indices.flatMap((index, place) => {
        const column = columns[index];
        return column === undefined ? [] : [[column.name, valueOf(cells[place], column)]];
      }),
    );
  const isList = Array.isArray(data.task);
  return {
    body: {
      context: valuesOf(ofContext, row.slice(1)),
      candidates: largest.map(([key, , ...cells]) => ({
        adgroup: isList ? String(key).split(KEY_SEPARATOR) : String(key),
        features: valuesOf(own, cells),
      })),
    },
    names: largest.map(([key, name]) => String(name ?? key).replaceAll(KEY_SEPARATOR, ', ')),
  };
}

/** SQL of the adgroup's key over the texts `c0`, `c1`, ... */
async function keySql(
  task: DataConfig['task'],
  columns: readonly LogColumn[],
  session: DuckSession,
): Promise<string> {
  if (!isComputed(task)) {
    const texts = [task].flat().map((name) => `c${placeOf(columns, name)}`);
    const isEmpty = texts.map((text) => `nullif(${text}, '') IS NULL`).join(' OR ');
    return `CASE WHEN NOT (${isEmpty}) THEN concat_ws(chr(31), ${texts.join(', ')}) END`;
  }
  // Expressions see columns in the types of their texts.
  const typed: string[] = [];
  const configPath = 'data.task.expression';
  for (const name of await columnsNamedIn({ sql: task.expression, configPath }, session)) {
    const place = placeOf(columns, name);
    const column = columns[place];
    if (column === undefined) continue;
    const { sql } = await typedColumn({ name, type: null }, place, SAMPLED_ROWS_MAX, session);
    typed.push(`${sql} AS ${identifier(name)}`);
  }
  const value = `nullif(CAST(TRY((${task.expression})) AS VARCHAR), '')`;
  return `(SELECT ${value} FROM (SELECT ${typed.join(', ')}))`;
}

/** The columns that features read. */
async function usedColumns(
  features: DataConfig['features'],
  columns: readonly LogColumn[],
  session: DuckSession,
): Promise<number[]> {
  const places = new Set<number>();
  for (const [index, feature] of features.entries()) {
    const sql = 'expression' in feature ? feature.expression : undefined;
    const configPath = `data.features.${index}.expression`;
    const names =
      sql === undefined
        ? [feature.column ?? feature.name]
        : await columnsNamedIn({ sql, configPath }, session);
    for (const name of names) places.add(placeOf(columns, name));
  }
  return [...places].filter((place) => place >= 0).sort((a, b) => a - b);
}

/** SQL names columns in either case. */
function placeOf(columns: readonly LogColumn[], wanted: string): number {
  const exact = columns.findIndex(({ name }) => name === wanted);
  return exact >= 0
    ? exact
    : columns.findIndex(({ name }) => name.toLowerCase() === wanted.toLowerCase());
}

const NUMBER_TYPE = /^(DOUBLE|FLOAT|DECIMAL)/;

/** A value as JSON: Parquet files have types, whose values were read as texts. */
function valueOf(cell: unknown, { type }: LogColumn): Value {
  if (typeof cell !== 'string') return null;
  if (type === 'BOOLEAN') return cell === 'true';
  if (type !== null && NUMBER_TYPE.test(type)) return Number(cell);
  if (type?.endsWith('[]') === true) return cell.slice(1, -1).split(', ');
  return cell;
}
