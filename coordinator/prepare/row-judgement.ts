/**
 * Creates the view `judged`: the fields that the config derives from each row of the logs, and the reason
 * why a row is refused.
 *
 * Columns: row, kept (passes `where`), key, code (the key, or the number that stands for it), time, label (where tasks differ in it), clicks and
 * impressions (or a value and its weight), oracle, f0, f1, ... (the features' values before encoding, of
 * which whole numbers stand for their texts where the logs are kept so)
 * and reason (null for a good row).
 */

import type { DataConfig, FeatureConfig, LabelConfig } from '../../shared/config/data-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { type RunEventSink, warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import {
  type ColumnTypes,
  JSON_LIST_START,
  STORED_SIZE_MAX,
  STORED_SIZE_MIN,
} from '../../shared/features/encoding-rules.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import {
  columnsNamedIn,
  createLogsAsRead,
  requireUsable,
  isComputed,
  storedColumnSql,
  typedColumn,
  type ConfigExpression,
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
import { identifier, literal } from '../logs/sql.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { TaskLabel } from '../../shared/tasks/task-label.js';

type TypedColumn = Awaited<ReturnType<typeof typedColumn>>;

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

interface JudgedLogs extends RawLogs {
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
  /** Types of the columns in the logs of the store. */
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

/** One of the labels of a config. The label index of a row is its place in the list. */
interface RowLabel {
  /** Null without segments. */
  readonly segment: string | null;
  readonly label: LabelConfig;
  readonly weight: string | undefined;
  /** The share of impressions without a click that the logs keep. */
  readonly keptShare: number | undefined;
  readonly configPath: string;
  readonly loss: 'binary' | 'squared';
}

export function rowLabelsOf(data: DataConfig): RowLabel[] {
  const rowLabel = (
    segment: string | null,
    label: LabelConfig,
    weight: string | undefined,
    configPath: string,
  ): RowLabel => ({
    segment,
    label,
    ...{ weight: weight ?? data.weight, keptShare: data.downsampling, configPath },
    loss: 'value' in label || 'valueExpression' in label ? 'squared' : 'binary',
  });
  if (data.label !== undefined) return [rowLabel(null, data.label, undefined, 'data')];
  return (data.segments?.labels ?? []).map(({ segment, label, weight }, index) =>
    rowLabel(segment, label, weight, `data.segments.labels.${index}`),
  );
}

const COUNTS = ['clicks', 'impressions'] as const;

/** Returns whether tasks of the store say which label they have. Otherwise all have clicks. */
export function storesLabels(labels: readonly RowLabel[]): boolean {
  return labels.some(({ segment, loss }) => segment !== null || loss !== 'binary');
}

function labelExpressionsOf(data: DataConfig): ConfigExpression[] {
  return rowLabelsOf(data).flatMap(({ label, configPath }): ConfigExpression[] => {
    if ('expression' in label) {
      const path = `${configPath}.label.expression`;
      return [{ sql: label.expression, configPath: path, isCondition: true }];
    }
    if ('valueExpression' in label) {
      const path = `${configPath}.label.valueExpression`;
      return [{ sql: label.valueExpression, configPath: path }];
    }
    if ('clicks' in label)
      return COUNTS.flatMap((name) => {
        const count = label[name];
        const path = `${configPath}.label.${name}.expression`;
        return isComputed(count) ? [{ sql: count.expression, configPath: path }] : [];
      });
    return [];
  });
}

function labelColumnUsesOf(data: DataConfig): ColumnUse[] {
  const ofLabels = rowLabelsOf(data).flatMap(({ label, weight, configPath }): ColumnUse[] => [
    ...('column' in label ? [numberUse(label.column, `${configPath}.label.column`)] : []),
    ...('clicks' in label
      ? COUNTS.flatMap((counted) => {
          const count = label[counted];
          return isComputed(count) ? [] : [numberUse(count, `${configPath}.label.${counted}`)];
        })
      : []),
    ...('value' in label ? [numberUse(label.value, `${configPath}.label.value`)] : []),
    ...(weight === undefined || weight === data.weight
      ? []
      : [numberUse(weight, `${configPath}.weight`)]),
  ]);
  const { segments } = data;
  return segments === undefined
    ? ofLabels
    : [{ name: segments.column, configPath: 'data.segments.column' }, ...ofLabels];
}

function numberUse(name: string, configPath: string): ColumnUse {
  return { name, configPath, needs: 'number' };
}

/** `label` if tasks have several, `clicks`, `impressions`, and `oracle` if it is known. */
function labelFields(
  data: DataConfig,
  oracleColumn: string | undefined,
  raw: RawColumns,
): [string, JudgedField][] {
  const labels = rowLabelsOf(data);
  const fields = labels.map((label): [string, JudgedField][] => [
    ...weightedLabel(label, raw),
    ...(oracleColumn === undefined
      ? []
      : [['oracle', oracleField(oracleColumn, label, raw)] satisfies [string, JudgedField]]),
  ]);
  const [first = []] = fields;
  if (data.segments === undefined)
    return storesLabels(labels)
      ? [['label', { sql: '0::INTEGER', refusals: [] }], ...first]
      : first;
  const segment = raw.text(data.segments.column);
  const isOf = ({ segment: name }: RowLabel): string => `${segment} = ${literal(name ?? '')}`;
  const names = labels.map(({ segment: name }) => name).join(', ');
  return [
    [
      'label',
      {
        sql: `CASE ${labels.map((label, index) => `WHEN ${isOf(label)} THEN ${index}`).join(' ')} END`,
        refusals: [
          [
            `coalesce(${segment} NOT IN (${labels.map(({ segment: name }) => literal(name ?? '')).join(', ')}), true)`,
            foundIn(data.segments.column, `one of the segments ${names}`, raw),
          ],
        ],
      },
    ],
    ...first.map(([name], place): [string, JudgedField] => {
      const ofLabel = labels.map((label, index) => ({
        is: isOf(label),
        field: fields[index]?.[place]?.[1] ?? { sql: 'NULL', refusals: [] },
      }));
      return [
        name,
        {
          sql: `CASE ${ofLabel.map(({ is, field }) => `WHEN ${is} THEN CAST(${field.sql} AS DOUBLE)`).join(' ')} END`,
          refusals: ofLabel.flatMap(({ is, field }) =>
            field.refusals.map(
              ([condition, reason]) => [`${is} AND (${condition})`, reason] as const,
            ),
          ),
        },
      ];
    }),
  ];
}

/** For a value, `clicks` is the value itself. It is standardised once the moments are known. */
function weightedLabel(
  { label, weight: weightColumn, keptShare, configPath }: RowLabel,
  raw: RawColumns,
): [string, JudgedField][] {
  const weight = weightColumn === undefined ? '1.0::DOUBLE' : raw.number(weightColumn);
  const refusals: [string, string][] = [];
  if (weightColumn !== undefined)
    refusals.push([
      `${weight} IS NULL OR NOT isfinite(${weight}) OR ${weight} <= 0`,
      foundIn(weightColumn, 'a weight above 0', raw),
    ]);
  if ('value' in label || 'valueExpression' in label) {
    const { sql, refusal } = valueOf(label, raw);
    return [
      ['clicks', { sql, refusals: [...refusals, refusal] }],
      ['impressions', storedImpressions('1', weight)],
    ];
  }
  if ('clicks' in label) {
    const [clicks, impressions] = [countSql(label.clicks, raw), countSql(label.impressions, raw)];
    const refusal = (name: (typeof COUNTS)[number], expected: string): string => {
      const count = label[name];
      return isComputed(count)
        ? literal(`the expression of ${configPath}.label.${name} does not give ${expected}`)
        : foundIn(count, expected, raw);
    };
    const most = isComputed(label.impressions) ? 'the impressions' : `"${label.impressions}"`;
    refusals.push(
      [
        `${impressions} IS NULL OR NOT isfinite(${impressions}) OR ${impressions} <= 0`,
        refusal('impressions', 'a count above 0'),
      ],
      [
        `${clicks} IS NULL OR NOT (${clicks} >= 0 AND ${clicks} <= ${impressions})`,
        refusal('clicks', `a count from 0 to ${most}`),
      ],
    );
    return [
      ['clicks', { sql: `TRY_CAST(${clicks} * ${weight} AS FLOAT)`, refusals }],
      ['impressions', storedImpressions(allImpressions(impressions, clicks, keptShare), weight)],
    ];
  }
  const clicked = clickedSql(label, raw);
  const click = `(CASE WHEN ${clicked} THEN 1 ELSE 0 END)`;
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
    ['impressions', storedImpressions(allImpressions('1', click, keptShare), weight)],
  ];
}

/** SQL of the impressions before most of those without a click were dropped. */
function allImpressions(kept: string, clicks: string, keptShare: number | undefined): string {
  return keptShare === undefined
    ? kept
    : `(${clicks} + (${kept} - ${clicks}) / ${keptShare}::DOUBLE)`;
}

function countSql(count: string | { readonly expression: string }, raw: RawColumns): string {
  return isComputed(count) ? `TRY_CAST(TRY((${count.expression})) AS DOUBLE)` : raw.number(count);
}

function storedImpressions(impressions: string, weight: string): JudgedField {
  const weighted = `(${impressions} * ${weight})`;
  const reason = `${literal('impressions times weight are ')} || CAST(${weighted} AS VARCHAR) || ${literal(`, expected ${STORED_SIZE_MIN} to ${STORED_SIZE_MAX}`)}`;
  return {
    sql: `TRY_CAST(${weighted} AS FLOAT)`,
    refusals: [[`NOT (${weighted} BETWEEN ${STORED_SIZE_MIN} AND ${STORED_SIZE_MAX})`, reason]],
  };
}

function valueOf(
  label: Extract<LabelConfig, { loss: 'squared' }>,
  raw: RawColumns,
): { readonly sql: string; readonly refusal: [string, string] } {
  const sql =
    'value' in label
      ? raw.number(label.value)
      : `TRY_CAST(TRY((${label.valueExpression})) AS DOUBLE)`;
  const expected = `a number within ${STORED_SIZE_MAX} of 0`;
  return {
    sql,
    refusal: [
      `${sql} IS NULL OR NOT (abs(${sql}) <= ${STORED_SIZE_MAX})`,
      'value' in label
        ? foundIn(label.value, expected, raw)
        : literal(`the label expression does not give ${expected}`),
    ],
  };
}

type ClickOrNoneLabel = Extract<
  LabelConfig,
  { readonly column: string } | { readonly expression: string }
>;

/** SQL for whether a row of `typed_logs` was clicked; null if its label is neither 0 nor 1. */
function clickedSql(label: ClickOrNoneLabel, raw: RawColumns): string {
  if ('expression' in label) return `TRY((${label.expression}))`;
  const number = raw.number(label.column);
  const text = `lower(${raw.text(label.column)})`;
  // Numbers come first, so that the text of a label that is one is not looked at.
  return `CASE WHEN ${number} = 1 THEN true WHEN ${number} = 0 THEN false WHEN ${text} = 'true' THEN true WHEN ${text} = 'false' THEN false END`;
}

function oracleField(name: string, { loss }: RowLabel, raw: RawColumns): JudgedField {
  const number = raw.number(name);
  const [condition, expected] =
    loss === 'binary'
      ? [`${number} >= 0 AND ${number} <= 1`, 'a probability']
      : [`abs(${number}) <= ${STORED_SIZE_MAX}`, 'a known mean value'];
  return {
    sql: `CAST(${number} AS FLOAT)`,
    refusals: [[`${number} IS NULL OR NOT (${condition})`, foundIn(name, expected, raw)]],
  };
}

/** @throws QianmoError of kind `data` if a task has rows of two segments. */
export async function requireOneLabelPerTask(
  labels: readonly RowLabel[],
  session: DuckSession,
): Promise<void> {
  const [key, first, last] = await session.row(
    `SELECT key, CAST(label AS DOUBLE), CAST(label_max AS DOUBLE) FROM task_sizes
      WHERE label <> label_max ORDER BY key LIMIT 1`,
  );
  if (key === undefined) return;
  const nameOf = (index: unknown): string => labels[Number(index)]?.segment ?? '';
  throw errorOf('data', 'a task has rows of two segments', {
    where: `data.segments.column, task "${String(key).replaceAll('\u001f', '", "')}"`,
    expected: 'one segment in all rows of a task: it decides the loss of the task',
    found: `${nameOf(first)} and ${nameOf(last)}`,
    cure: 'add the column of the segments to data.task',
  });
}

/**
 * The labels of the manifest; null if no task needs to say which label it has.
 *
 * @throws QianmoError of kind `data` for a label that no training task has.
 */
export async function learnTaskLabels(
  labels: readonly RowLabel[],
  session: DuckSession,
): Promise<TaskLabel[] | null> {
  if (!storesLabels(labels)) return null;
  // In order of the rows, and then two passes by one thread, so that the sums have one order.
  await session.run(
    `CREATE TABLE labelled AS SELECT label, clicks, impressions FROM encodable WHERE split = 0 ORDER BY row`,
  );
  const found = await session.inOrder(() =>
    session.rows(
      `SELECT CAST(label AS DOUBLE), any_value(mean),
        sqrt(sum(impressions * (clicks - mean) * (clicks - mean)) / sum(impressions))
        FROM labelled JOIN (SELECT label AS of_label,
          sum(impressions::DOUBLE * clicks) / sum(impressions::DOUBLE) AS mean
          FROM labelled GROUP BY label) ON label = of_label
        GROUP BY label`,
    ),
  );
  await session.run('DROP TABLE labelled');
  const moments = new Map(found.map(([index, ...rest]) => [Number(index), rest.map(Number)]));
  const learned: TaskLabel[] = [];
  for (const [index, { segment, loss, configPath }] of labels.entries()) {
    const ofLabel = moments.get(index);
    if (ofLabel === undefined) throw await noTrainingRows(index, segment, configPath, session);
    const [mean = 0, deviation = 1] = ofLabel;
    learned.push(
      loss === 'binary'
        ? { loss, segment }
        : // A constant value has deviation 0 (or a rounding error) and is learned as it is.
          { loss, segment, mean, deviation: deviation > 1e-12 * Math.abs(mean) ? deviation : 1 },
    );
  }
  return learned;
}

/** Finds labels that are the same in all training rows, from which nothing can be learned. */
export async function labelsThatNeverDiffer(
  labels: readonly RowLabel[],
  session: DuckSession,
): Promise<RunEvent[]> {
  const constants: RunEvent[] = [];
  for (const [index, { loss, segment }] of labels.entries()) {
    const rows = `FROM encodable WHERE split = 0 ${storesLabels(labels) ? `AND label = ${index}` : ''}`;
    // Ends at the first row of this kind, which is near the start of most logs.
    const isAnyRow = async (condition: string): Promise<boolean> =>
      (await session.row(`SELECT true ${rows} AND ${condition} LIMIT 1`)).length > 0;
    const tell = (value: string): void => {
      const whose = segment === null ? '' : ` of segment ${segment}`;
      const text = `every training row${whose} has ${value}: nothing can be learned from it; check that the config names the right column`;
      constants.push(warningEvent('label-never-differs', text));
    };
    if (loss === 'binary') {
      if (!(await isAnyRow('clicks <> 0'))) tell('label 0');
      else if (!(await isAnyRow('clicks < impressions'))) tell('label 1');
      continue;
    }
    const [value] = await session.row(`SELECT CAST(clicks AS DOUBLE) ${rows} LIMIT 1`);
    if (value !== undefined && !(await isAnyRow(`clicks <> ${Number(value)}::DOUBLE`)))
      tell(`the value ${Number(value)}`);
  }
  return constants;
}

async function noTrainingRows(
  index: number,
  segment: string | null,
  configPath: string,
  session: DuckSession,
): Promise<QianmoError> {
  const [rowCount, taskCount] = (
    await session.row(
      `SELECT CAST(count(*) AS DOUBLE), CAST(count(DISTINCT task) AS DOUBLE) FROM encodable
        WHERE label = ${index}`,
    )
  ).map(Number);
  return errorOf('data', `the segment ${segment ?? ''} has nothing to train on`, {
    where: configPath,
    expected: 'rows of it in at least one training task',
    found:
      rowCount === 0
        ? 'none of its accepted rows is in a large enough task'
        : `${rowCount ?? 0} rows in ${taskCount ?? 0} tasks, all held out`,
    cure: 'correct the name of the segment, provide logs with more tasks of it, or leave it out',
  });
}
