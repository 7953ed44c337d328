/**
 * Creates the view `judged`: the fields that the config derives from each row of the logs, and the reason
 * why a row is refused.
 *
 * Columns: row, kept (passes `where`), key, code (the key, or the number that stands for it), time, label (where tasks differ in it), clicks and
 * impressions (or a value and its weight), oracle, f0, f1, ... (the features' values before encoding, of
 * which whole numbers stand for their texts where the logs are kept so)
 * and reason (null for a good row).
 */

import type { DataConfig, FeatureConfig } from '../../shared/config/data-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ColumnTypes } from '../../shared/features/raw-values.js';
import { JSON_LIST_START, STORED_SIZE_MAX } from '../../shared/features/encoding-rules.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import {
  columnsNamedIn,
  createLogsAsRead,
  requireUsable,
  isComputed,
  storedColumnSql,
  typedColumn,
  type ConfigExpression,
  type TypedColumn,
} from '../logs/expressions.js';
import {
  type ColumnNeed,
  foundIn,
  isKeptNumber,
  RawColumns,
  type JudgedField,
} from '../logs/log-columns.js';
import type { LogFile } from '../logs/log-files.js';
import { readRawLogs, type ColumnUse, type RawLogs } from '../logs/log-reading.js';
import { labelColumnUsesOf, labelExpressionsOf, labelFields } from './row-labels.js';
import { identifier, literal } from '../logs/sql.js';

/** The separator between the values of several task columns, as an SQL literal. */
const KEY_SEPARATOR = 'chr(31)';
/** Names by which requests know an adgroup: columns, or an expression, which no column has for a name. */
export function taskColumnsOf({ task }: DataConfig): readonly string[] {
  if (typeof task === 'string') return [task];
  return 'expression' in task ? [task.expression] : task;
}

function expressionsOf(data: DataConfig): ConfigExpression[] {
  const found: ConfigExpression[] = [];
  if (isComputed(data.task))
    found.push({ sql: data.task.expression, configPath: 'data.task.expression' });
  found.push(...labelExpressionsOf(data));
  if (data.where !== undefined)
    found.push({ sql: data.where, configPath: 'data.where', isCondition: true });
  if (isComputed(data.time))
    found.push({ sql: data.time.expression, configPath: 'data.time.expression' });
  for (const [index, feature] of data.features.entries())
    if (feature.kind !== 'bag' && feature.expression !== undefined)
      found.push({
        sql: feature.expression,
        configPath: `data.features.${index}.expression`,
      });
  return found;
}

/** Every column that the config names, once, with the place that names it first. */
async function columnUsesOf(config: RunConfig, session: DuckSession): Promise<ColumnUse[]> {
  const { data } = config;
  const named = isComputed(data.task) ? [] : taskColumnsOf(data);
  const uses: ColumnUse[] = named.map((name) => ({ name, configPath: 'data.task', needs: 'text' }));
  const add = (name: string | undefined, configPath: string, needs?: ColumnNeed): void => {
    if (name !== undefined)
      uses.push({ name, configPath, ...(needs === undefined ? {} : { needs }) });
  };
  uses.push(...labelColumnUsesOf(data));
  add(data.weight, 'data.weight', 'number');
  if (typeof data.time === 'string') add(data.time, 'data.time', 'number');
  add(config.evaluation.oracleColumn, 'evaluation.oracleColumn', 'number');
  for (const [index, feature] of data.features.entries())
    if (feature.kind === 'bag' || feature.expression === undefined)
      add(feature.column ?? feature.name, `data.features.${index}.column`, needOf(feature));
  for (const expression of expressionsOf(data))
    for (const name of await columnsNamedIn(expression, session)) add(name, expression.configPath);
  return uses.flatMap((use, index): ColumnUse[] => {
    if (uses.findIndex(({ name }) => name === use.name) !== index) return [];
    const { needs, ...anyUse } = use;
    const isAlike = uses.every((other) => other.name !== use.name || other.needs === needs);
    return [isAlike ? use : anyUse];
  });
}

function needOf({ kind }: FeatureConfig): ColumnNeed | undefined {
  if (kind === 'bag') return undefined;
  return kind === 'number' ? 'number' : 'text';
}

export interface JudgedLogs extends RawLogs {
  readonly isAnyRowRefused: boolean;
}

/** Reads the logs and makes the view `judged`. Texts are kept where a row is refused, since its reason quotes them. */
export async function judgeLogs(
  config: RunConfig,
  files: readonly LogFile[],
  session: DuckSession,
  sink: RunEventSink,
): Promise<JudgedLogs> {
  const uses = await columnUsesOf(config, session);
  const logs = await readRawLogs(files, uses, session, sink);
  await createJudgedView(config, logs, session);
  const isAnyRefused = await isAnyRowRefused(session);
  if (!isAnyRefused || !logs.columns.some(isKeptNumber))
    return { ...logs, isAnyRowRefused: isAnyRefused };
  return judgeTexts(config, { files }, session, sink);
}

interface JudgedTexts {
  readonly files: readonly LogFile[];
  /** As for `createJudgedView`. */
  readonly stored?: ColumnTypes | undefined;
}

export async function judgeTexts(
  config: RunConfig,
  { files, stored }: JudgedTexts,
  session: DuckSession,
  sink: RunEventSink,
): Promise<JudgedLogs> {
  const uses = await columnUsesOf(config, session);
  const ofTexts = uses.map(({ name, configPath }) => ({ name, configPath }));
  const logs = await readRawLogs(files, ofTexts, session, sink);
  await createJudgedView(config, logs, session, stored);
  return { ...logs, isAnyRowRefused: await isAnyRowRefused(session) };
}

/**
 * Most logs have no such row, and a count finds that in half the time that a table of them takes: a condition on the
 * reason would be moved below the fields, which it would then compute once each time that it names them.
 */
async function isAnyRowRefused(session: DuckSession): Promise<boolean> {
  const [isAny] = await session.row('SELECT count(reason) > 0 FROM judged WHERE kept');
  return isAny === true;
}

/**
 * @param stored types of the columns in the logs of a store, which logs that are appended to it keep
 * @throws QianmoError of kind `usage` if an expression does not bind or has a wrong type.
 */
async function createJudgedView(
  config: RunConfig,
  { columns, hasEmptyTexts }: Pick<RawLogs, 'columns' | 'hasEmptyTexts'>,
  session: DuckSession,
  stored: ColumnTypes = {},
): Promise<void> {
  const { data } = config;
  const expressions = expressionsOf(data);
  const typed = new Map<number, TypedColumn>();
  for (const expression of expressions)
    for (const name of await columnsNamedIn(expression, session)) {
      const index = columns.findIndex((column) => column.name === name);
      const column = columns[index];
      if (column === undefined || typed.has(index)) continue;
      const sql = column.type === null ? storedColumnSql(index, stored[name]) : null;
      typed.set(
        index,
        sql === null
          ? await typedColumn(column, index, data.rejectedRowsMax, session)
          : { sql, leavesOut: false },
      );
    }
  await createLogsAsRead(columns, typed, expressions, session);
  for (const expression of expressions) await requireUsable(expression, session);
  const raw = new RawColumns(columns, hasEmptyTexts);
  const fields: [string, JudgedField][] = [
    ['key', keyField(data, raw)],
    ['code', codeField(data, raw)],
    ['time', timeField(data, raw)],
    ...labelFields(data, config.evaluation.oracleColumn, raw),
  ];
  for (const [index, feature] of data.features.entries())
    fields.push([`f${index}`, featureField(feature, raw)]);
  const refusals = fields.flatMap(([, field]) =>
    field.refusals.map(([condition, reason]) => `WHEN ${condition} THEN ${reason}`),
  );
  await session.run(
    `CREATE OR REPLACE VIEW judged AS SELECT "qm$row" AS row,
      ${data.where === undefined ? 'true' : `coalesce(TRY(${data.where}), false)`} AS kept,
      ${fields.map(([name, field]) => `${field.sql} AS ${name}`).join(',\n')},
      CASE ${refusals.join('\n')} ELSE NULL END AS reason FROM ${raw.source()}`,
  );
}

function keyField(data: DataConfig, raw: RawColumns): JudgedField {
  if (isComputed(data.task)) {
    const sql = `nullif(CAST(TRY((${data.task.expression})) AS VARCHAR), '')`;
    return { sql, refusals: [[`${sql} IS NULL`, literal('the expression of data.task is empty')]] };
  }
  const names = taskColumnsOf(data);
  const texts = names.map((name) => raw.text(name));
  return {
    // Concatenation would copy the only text.
    sql:
      texts.length === 1
        ? `coalesce(${texts.join()}, '')`
        : `concat_ws(${KEY_SEPARATOR}, ${texts.join(', ')})`,
    refusals: names.map((name) => [
      `${raw.text(name)} IS NULL`,
      literal(`the task column "${name}" is empty`),
    ]),
  };
}

/** Adgroups are told apart by codes: whole numbers are grouped and looked up faster than texts. */
function codeField(data: DataConfig, raw: RawColumns): JudgedField {
  const [only = '', ...others] = isComputed(data.task) ? [] : taskColumnsOf(data);
  const isCoded = only !== '' && others.length === 0 && raw.value(only) !== raw.text(only);
  return { sql: isCoded ? raw.value(only) : keyField(data, raw).sql, refusals: [] };
}

function timeField(data: DataConfig, raw: RawColumns): JudgedField {
  if (data.time === undefined) return { sql: '0.0::DOUBLE', refusals: [] };
  if (isComputed(data.time)) return computedTimeField(data.time.expression);
  const column = raw.sql(data.time);
  const type = raw.type(data.time);
  const sql =
    type !== null && /^(TIMESTAMP|DATE)/.test(type)
      ? `epoch(${column})`
      : `coalesce(${raw.number(data.time)}, epoch(TRY_CAST(CAST(${column} AS VARCHAR) AS TIMESTAMPTZ)))`;
  return {
    sql,
    refusals: [
      [
        `${sql} IS NULL OR NOT isfinite(${sql})`,
        foundIn(
          data.time,
          `a number, or a timestamp such as 2026-11-01 20:15:00 (other forms: time: { expression: ${strptimeOf(data.time)} })`,
          raw,
        ),
      ],
    ],
  };
}

/** An example that reads the column, in quotes for YAML. */
function strptimeOf(column: string): string {
  return JSON.stringify(`strptime(${identifier(column)}, '%d.%m.%Y %H:%M')`);
}

function computedTimeField(expression: string): JudgedField {
  const text = `CAST(TRY((${expression})) AS VARCHAR)`;
  const sql = `coalesce(TRY_CAST(${text} AS DOUBLE), epoch(TRY_CAST(${text} AS TIMESTAMPTZ)))`;
  const reason = literal('the expression of data.time does not give a number or a timestamp');
  return { sql, refusals: [[`${sql} IS NULL OR NOT isfinite(${sql})`, reason]] };
}

function featureField(feature: FeatureConfig, raw: RawColumns): JudgedField {
  const column = feature.column ?? feature.name;
  switch (feature.kind) {
    case 'category':
      return {
        sql:
          feature.expression === undefined
            ? raw.value(column)
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
    members = `CASE WHEN ${text} LIKE '${JSON_LIST_START}%' THEN coalesce(TRY(CAST(from_json(${text}, '["VARCHAR"]') AS VARCHAR[])), ${split}) ELSE ${split} END`;
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
    feature.expression === undefined ? raw.value(column) : `TRY((${feature.expression}))`;
  const number =
    feature.expression === undefined && /^(FLOAT|DOUBLE)$/.test(raw.type(column) ?? 'DOUBLE')
      ? raw.number(column)
      : `TRY_CAST(${source} AS DOUBLE)`;
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
