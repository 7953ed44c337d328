/**
 * The view `judged`: what the config makes of each row of the logs, and why a row is refused.
 *
 * Columns: row, kept (passes `where`), key, time, clicks, impressions, oracle, f0, f1, ... (the
 * features' values before encoding) and reason (null for a good row).
 */

import type { DataConfig, FeatureConfig } from '../../shared/config/data-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { DuckSession } from './duckdb-session.js';
import {
  badExpression,
  columnsNamedIn,
  createTypedLogs,
  typedColumnSql,
  typeOfExpression,
  type ConfigExpression,
} from './expressions.js';
import type { LogColumn } from './log-columns.js';
import type { ColumnUse } from './log-reading.js';
import { literal } from './sql.js';

/** Between the values of several task columns; a literal in SQL. */
const KEY_SEPARATOR = 'chr(31)';
/** The store holds single precision: beyond these a value would become infinite or 0 there. */
const STORED_SIZE_MAX = '3.4e38';
const STORED_SIZE_MIN = '1.2e-38';

export function taskColumnsOf(data: DataConfig): readonly string[] {
  return typeof data.task === 'string' ? [data.task] : data.task;
}

function expressionsOf(data: DataConfig): ConfigExpression[] {
  const found: ConfigExpression[] = [];
  if ('expression' in data.label)
    found.push({ sql: data.label.expression, configPath: 'data.label.expression' });
  if (data.where !== undefined) found.push({ sql: data.where, configPath: 'data.where' });
  for (const [index, feature] of data.features.entries())
    if (feature.kind !== 'bag' && feature.expression !== undefined)
      found.push({
        sql: feature.expression,
        configPath: `data.features.${index}.expression`,
      });
  return found;
}

/** Every column the config uses by name, once, with the place that names it first. */
export async function columnUsesOf(config: RunConfig, session: DuckSession): Promise<ColumnUse[]> {
  const { data } = config;
  const uses: ColumnUse[] = taskColumnsOf(data).map((name) => ({ name, configPath: 'data.task' }));
  const add = (name: string | undefined, configPath: string): void => {
    if (name !== undefined) uses.push({ name, configPath });
  };
  if ('column' in data.label) add(data.label.column, 'data.label.column');
  if ('clicks' in data.label) {
    add(data.label.clicks, 'data.label.clicks');
    add(data.label.impressions, 'data.label.impressions');
  }
  add(data.weight, 'data.weight');
  add(data.time, 'data.time');
  add(config.evaluation.oracleColumn, 'evaluation.oracleColumn');
  for (const [index, feature] of data.features.entries())
    if (feature.kind === 'bag' || feature.expression === undefined)
      add(feature.column ?? feature.name, `data.features.${index}.column`);
  for (const expression of expressionsOf(data))
    for (const name of await columnsNamedIn(expression, session)) add(name, expression.configPath);
  return uses.filter((use, index) => uses.findIndex(({ name }) => name === use.name) === index);
}

/** SQL of one field of `judged`, and the conditions under which it makes the row refused. */
interface JudgedField {
  readonly sql: string;
  /** Pairs of a condition and SQL of the reason. */
  readonly refusals: readonly (readonly [condition: string, reason: string])[];
}

class RawColumns {
  constructor(private readonly columns: readonly LogColumn[]) {}

  index(name: string): number {
    const index = this.columns.findIndex((column) => column.name === name);
    if (index < 0) throw new Error(`the column ${name} was not read`);
    return index;
  }
  type(name: string): string | null {
    return this.columns[this.index(name)]?.type ?? null;
  }
  sql(name: string): string {
    return `"qm$${this.index(name)}"`;
  }
  /** An empty text counts as missing. */
  text(name: string): string {
    return `nullif(CAST(${this.sql(name)} AS VARCHAR), '')`;
  }
  number(name: string): string {
    return `TRY_CAST(${this.sql(name)} AS DOUBLE)`;
  }
}

/** @throws QianmoError of kind `usage` when an expression does not bind or has a wrong type. */
export async function createJudgedView(
  config: RunConfig,
  columns: readonly LogColumn[],
  session: DuckSession,
): Promise<void> {
  const { data } = config;
  const typed = new Map<number, string>();
  for (const expression of expressionsOf(data))
    for (const name of await columnsNamedIn(expression, session)) {
      const index = columns.findIndex((column) => column.name === name);
      const column = columns[index];
      if (column !== undefined && !typed.has(index))
        typed.set(index, await typedColumnSql(column, index, data.rejectedRowsMax, session));
    }
  await createTypedLogs(columns, typed, session);
  for (const expression of expressionsOf(data)) {
    const type = await typeOfExpression(expression, session);
    if (!expression.configPath.startsWith('data.features') && type !== 'BOOLEAN')
      throw badExpression(expression, `its type is ${type}, not BOOLEAN: it must be true or false`);
  }
  const raw = new RawColumns(columns);
  const fields: [string, JudgedField][] = [
    ['key', keyField(data, raw)],
    ['time', timeField(data, raw)],
    ...labelFields(data, raw),
  ];
  if (config.evaluation.oracleColumn !== undefined)
    fields.push(['oracle', oracleField(config.evaluation.oracleColumn, raw)]);
  for (const [index, feature] of data.features.entries())
    fields.push([`f${index}`, featureField(feature, raw)]);
  const refusals = fields.flatMap(([, field]) =>
    field.refusals.map(([condition, reason]) => `WHEN ${condition} THEN ${reason}`),
  );
  await session.run(
    `CREATE VIEW judged AS SELECT "qm$row" AS row,
      ${data.where === undefined ? 'true' : `coalesce(TRY(${data.where}), false)`} AS kept,
      ${fields.map(([name, field]) => `${field.sql} AS ${name}`).join(',\n')},
      CASE ${refusals.join('\n')} ELSE NULL END AS reason FROM typed_logs`,
  );
}

function keyField(data: DataConfig, raw: RawColumns): JudgedField {
  const names = taskColumnsOf(data);
  return {
    sql: `concat_ws(${KEY_SEPARATOR}, ${names.map((name) => raw.text(name)).join(', ')})`,
    refusals: names.map((name) => [
      `${raw.text(name)} IS NULL`,
      literal(`the task column "${name}" is empty`),
    ]),
  };
}

function timeField(data: DataConfig, raw: RawColumns): JudgedField {
  if (data.time === undefined) return { sql: '0.0::DOUBLE', refusals: [] };
  const column = raw.sql(data.time);
  const type = raw.type(data.time);
  const sql =
    type !== null && /^(TIMESTAMP|DATE)/.test(type)
      ? `epoch(${column})`
      : `coalesce(TRY_CAST(${column} AS DOUBLE), epoch(TRY_CAST(CAST(${column} AS VARCHAR) AS TIMESTAMPTZ)))`;
  return {
    sql,
    refusals: [
      [
        `${sql} IS NULL OR NOT isfinite(${sql})`,
        foundIn(data.time, 'a number or a timestamp', raw),
      ],
    ],
  };
}

/** SQL of `the column "x" holds "abc", expected ...`. */
function foundIn(name: string, expected: string, raw: RawColumns): string {
  return `${literal(`the column "${name}" holds `)} || coalesce('"' || CAST(${raw.sql(name)} AS VARCHAR) || '"', 'nothing') || ${literal(`, expected ${expected}`)}`;
}

function labelFields(data: DataConfig, raw: RawColumns): [string, JudgedField][] {
  const weight = data.weight === undefined ? '1.0::DOUBLE' : raw.number(data.weight);
  const refusals: [string, string][] = [];
  if (data.weight !== undefined)
    refusals.push([
      `${weight} IS NULL OR NOT isfinite(${weight}) OR ${weight} <= 0`,
      foundIn(data.weight, 'a weight above 0', raw),
    ]);
  const { label } = data;
  const stored = (impressions: string): JudgedField => {
    const weighted = `(${impressions} * ${weight})`;
    const reason = `${literal('impressions times weight are ')} || CAST(${weighted} AS VARCHAR) || ${literal(`, expected ${STORED_SIZE_MIN} to ${STORED_SIZE_MAX}`)}`;
    return {
      sql: `TRY_CAST(${weighted} AS FLOAT)`,
      refusals: [[`NOT (${weighted} BETWEEN ${STORED_SIZE_MIN} AND ${STORED_SIZE_MAX})`, reason]],
    };
  };
  if ('clicks' in label) {
    const clicks = raw.number(label.clicks);
    const impressions = raw.number(label.impressions);
    refusals.push(
      [
        `${impressions} IS NULL OR NOT isfinite(${impressions}) OR ${impressions} <= 0`,
        foundIn(label.impressions, 'a count above 0', raw),
      ],
      [
        `${clicks} IS NULL OR NOT (${clicks} >= 0 AND ${clicks} <= ${impressions})`,
        foundIn(label.clicks, `a count from 0 to "${label.impressions}"`, raw),
      ],
    );
    return [
      ['clicks', { sql: `TRY_CAST(${clicks} * ${weight} AS FLOAT)`, refusals }],
      ['impressions', stored(impressions)],
    ];
  }
  const clicked = 'column' in label ? labelColumn(label.column, raw) : `TRY((${label.expression}))`;
  refusals.push([
    `${clicked} IS NULL`,
    'column' in label
      ? foundIn(label.column, 'a label of 0 or 1', raw)
      : literal('the label expression gives neither true nor false'),
  ]);
  return [
    [
      'clicks',
      { sql: `TRY_CAST(CASE WHEN ${clicked} THEN ${weight} ELSE 0 END AS FLOAT)`, refusals },
    ],
    ['impressions', stored('1')],
  ];
}

function labelColumn(name: string, raw: RawColumns): string {
  const number = raw.number(name);
  const text = `lower(${raw.text(name)})`;
  return `CASE WHEN ${number} = 1 OR ${text} = 'true' THEN true WHEN ${number} = 0 OR ${text} = 'false' THEN false END`;
}

function oracleField(name: string, raw: RawColumns): JudgedField {
  const number = raw.number(name);
  return {
    sql: `CAST(${number} AS FLOAT)`,
    refusals: [
      [
        `${number} IS NULL OR NOT (${number} >= 0 AND ${number} <= 1)`,
        foundIn(name, 'a probability', raw),
      ],
    ],
  };
}

function featureField(feature: FeatureConfig, raw: RawColumns): JudgedField {
  const column = feature.column ?? feature.name;
  switch (feature.kind) {
    case 'category':
      return {
        sql:
          feature.expression === undefined
            ? raw.text(column)
            : `nullif(CAST(TRY((${feature.expression})) AS VARCHAR), '')`,
        refusals: [],
      };
    case 'bag':
      return { sql: bagMembers(column, feature.separator, feature.lengthMax, raw), refusals: [] };
    case 'number':
      return numberField(feature, raw);
  }
}

/** The first members of a bag, without empty ones; null for an empty bag. */
function bagMembers(column: string, separator: string, lengthMax: number, raw: RawColumns): string {
  const type = raw.type(column);
  const text = `CAST(${raw.sql(column)} AS VARCHAR)`;
  const split = `string_split(${text}, ${literal(separator)})`;
  let members: string;
  if (type?.endsWith(']') === true) members = `CAST(${raw.sql(column)} AS VARCHAR[])`;
  else if (type === null)
    members = `CASE WHEN ${text} LIKE '[%' THEN coalesce(TRY(CAST(from_json(${text}, '["VARCHAR"]') AS VARCHAR[])), ${split}) ELSE ${split} END`;
  else members = split;
  const filled = `list_filter(${members}, lambda m: m IS NOT NULL AND m <> '')`;
  return `CASE WHEN len(${filled}) > 0 THEN list_slice(${filled}, 1, ${lengthMax}) END`;
}

function numberField(
  feature: Extract<FeatureConfig, { kind: 'number' }>,
  raw: RawColumns,
): JudgedField {
  const column = feature.column ?? feature.name;
  const source =
    feature.expression === undefined ? raw.text(column) : `TRY((${feature.expression}))`;
  const number = `TRY_CAST(${source} AS DOUBLE)`;
  const reasonOf = (expected: string): string =>
    feature.expression === undefined
      ? foundIn(column, expected, raw)
      : literal(`the expression of the feature "${feature.name}" does not give ${expected}`);
  const reason = reasonOf('a number');
  const tooLarge: [string, string] = [
    `abs(${number}) > ${STORED_SIZE_MAX}`,
    reasonOf(`a number within ${STORED_SIZE_MAX} of 0`),
  ];
  const wrong = `${source} IS NOT NULL AND (${number} IS NULL OR NOT isfinite(${number}))`;
  if (feature.missing !== undefined)
    return {
      sql: `coalesce(${number}, ${feature.missing}::DOUBLE)`,
      refusals: [[wrong, reason], tooLarge],
    };
  return {
    sql: number,
    refusals: [[`${number} IS NULL OR NOT isfinite(${number})`, reason], tooLarge],
  };
}
