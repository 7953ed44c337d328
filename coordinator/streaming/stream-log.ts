/** Reads logs as the rows of a stream, in the order of time (of reading, where times are equal). */

import type { SlotConfig, StreamConfig } from '../../shared/config/stream-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { StreamRows } from '../../shared/streaming/stream-rows.js';
import { openDuckSession, type DuckSession } from '../logs/duckdb-session.js';
import {
  badExpression,
  columnsNamedIn,
  createTypedLogs,
  demandUsable,
  typedColumn,
  typeOfExpression,
  type ConfigExpression,
} from '../logs/expressions.js';
import { findLogFiles } from '../logs/log-files.js';
import { readRawLogs, type RawLogs } from '../logs/log-reading.js';
import { RawColumns } from '../logs/raw-columns.js';
import { clickedSql, type ClickOrNoneLabel } from '../prepare/row-labels.js';
import { identifier } from '../logs/sql.js';
import { withWorkFolder } from '../logs/work-folder.js';
import { StreamBuilder } from './stream-builder.js';
import { labelNeverDiffers } from '../../coordinator/prepare/prepare-messages.js';

interface StreamLogOptions {
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
  readonly objectStoreOf: (address: string) => ObjectStore;
  readonly temporaryFolder: string;
}

/** The separator between the members of a list, in SQL and here. */
const MEMBER_SEPARATOR_SQL = 'chr(30)';
const MEMBER_SEPARATOR = '\u001e';
const BLOCK_ROWS = 50_000;

/** @throws QianmoError of kind `usage`, `data`, `environment` or `interrupted`. */
export async function readStreamLog(
  config: StreamConfig,
  options: StreamLogOptions,
): Promise<StreamRows> {
  return withWorkFolder('stream', options.temporaryFolder, (folder) =>
    readInto(folder, config, options),
  );
}

async function readInto(
  folder: string,
  config: StreamConfig,
  options: StreamLogOptions,
): Promise<StreamRows> {
  const session = await openDuckSession(folder, config.data.memoryMiBMax, options.signal);
  try {
    const { objectStoreOf, sink } = options;
    const source = { session, objectStoreOf, temporaryFolder: folder };
    const files = await findLogFiles(config.data, source);
    const expressions = expressionsOf(config);
    const logs = await readRawLogs(files, await columnUses(expressions, session), session, sink);
    await createOrdered(config, expressions, logs, session);
    const rows = await orderedRows(config, logs.rowCount, session);
    warnOfOneClass(rows, sink);
    return rows;
  } finally {
    session.close();
  }
}

/** Label, time, then every slot that is not a cross. */
function expressionsOf(config: StreamConfig): ConfigExpression[] {
  const { data, slots } = config;
  const label = labelOf(config);
  return [
    'expression' in label
      ? { sql: label.expression, configPath: 'data.label.expression', isCondition: true }
      : { sql: identifier(label.column), configPath: 'data.label.column' },
    { sql: identifier(data.time), configPath: 'data.time' },
    ...plainSlots(slots).map(({ name, column, expression }) => ({
      sql: expression ?? identifier(column ?? name),
      configPath: `slots.${slots.findIndex((slot) => slot.name === name)}`,
    })),
  ];
}

function labelOf({ data: { label } }: StreamConfig): ClickOrNoneLabel {
  if ('clicks' in label) throw new Error('the config of a stream has one label per row');
  return label;
}

function plainSlots(slots: readonly SlotConfig[]): SlotConfig[] {
  return slots.filter(({ cross }) => cross === undefined);
}

async function columnUses(
  expressions: readonly ConfigExpression[],
  session: DuckSession,
): Promise<{ name: string; configPath: string }[]> {
  const uses = new Map<string, string>();
  for (const expression of expressions)
    for (const name of await columnsNamedIn(expression, session))
      if (!uses.has(name)) uses.set(name, expression.configPath);
  return [...uses].map(([name, configPath]) => ({ name, configPath }));
}

/** The table `ordered`: seconds, clicked, and every plain slot's members as one text. */
async function createOrdered(
  config: StreamConfig,
  expressions: readonly ConfigExpression[],
  { columns }: RawLogs,
  session: DuckSession,
): Promise<void> {
  const typed = new Map<number, string>();
  for (const [index, column] of columns.entries())
    typed.set(index, (await typedColumn(column, index, 0, session)).sql);
  await createTypedLogs(columns, typed, session);
  const [label, time, ...slots] = expressions;
  if (label === undefined || time === undefined) throw new Error('a label and a time come first');
  const raw = new RawColumns(columns);
  const fields = [
    `${await secondsSql(time, session)} AS seconds`,
    `${clickedSql(labelOf(config), raw)} AS clicked`,
  ];
  await demandUsable(label, session);
  for (const [index, slot] of slots.entries()) {
    const isList = (await typeOfExpression(slot, session)).endsWith(']');
    const members = isList
      ? `array_to_string(CAST(${slot.sql} AS VARCHAR[]), ${MEMBER_SEPARATOR_SQL})`
      : `CAST(${slot.sql} AS VARCHAR)`;
    fields.push(`coalesce(${members}, '') AS s${index}`);
  }
  await session.run(
    `CREATE TABLE ordered AS SELECT ${fields.join(', ')} FROM ${raw.source()} ORDER BY seconds, "qm$row"`,
  );
  await demandGoodRows(config, session);
}

async function secondsSql(time: ConfigExpression, session: DuckSession): Promise<string> {
  const type = await typeOfExpression(time, session);
  if (/^(TIMESTAMP|DATE)/.test(type)) return `CAST(epoch(${time.sql}) AS DOUBLE)`;
  if (/INT|DOUBLE|FLOAT|DECIMAL/.test(type)) return `CAST(${time.sql} AS DOUBLE)`;
  throw badExpression(time, `its type is ${type}, neither a number of seconds nor a timestamp`);
}

async function demandGoodRows(config: StreamConfig, session: DuckSession): Promise<void> {
  const [malformed, timeless, unlabelled] = await session.row(
    `SELECT (SELECT CAST(count(*) AS DOUBLE) FROM malformed),
      CAST(count(*) FILTER (seconds IS NULL OR NOT isfinite(seconds)) AS DOUBLE),
      CAST(count(*) FILTER (clicked IS NULL) AS DOUBLE) FROM ordered`,
  );
  const faults = [
    [malformed, 'are no rows'],
    [timeless, `have no time in "${config.data.time}"`],
    [unlabelled, 'have a label that is neither 0 nor 1'],
  ].filter(([count]) => Number(count) > 0);
  if (faults.length === 0) return;
  throw new QianmoError({
    kind: 'data',
    what: 'the logs hold rows that a stream cannot use',
    where: [config.data.logs].flat().join(', '),
    found: faults.map(([count, what]) => `${String(count)} lines that ${String(what)}`).join('; '),
    cure: 'correct or remove them',
  });
}

/** A warning and not a refusal: rules can run over such a stream, but cannot learn from it. */
function warnOfOneClass({ clicks }: StreamRows, sink: RunEventSink): void {
  const [first] = clicks;
  if (first === undefined || clicks.some((click) => click !== first)) return;
  const constant = { rows: 'row of the stream', segment: null, label: 'label', value: first };
  sink(labelNeverDiffers(constant));
}

async function orderedRows(
  { slots }: StreamConfig,
  rowCount: number,
  session: DuckSession,
): Promise<StreamRows> {
  const plain = plainSlots(slots);
  const builder = new StreamBuilder(slots.map(({ name, cross }) => ({ name, of: cross ?? null })));
  for (let from = 0; from < rowCount; from += BLOCK_ROWS) {
    const block = await session.rows(
      `SELECT * FROM ordered WHERE rowid >= ${from} AND rowid < ${from + BLOCK_ROWS} ORDER BY rowid`,
    );
    for (const [seconds, clicked, ...texts] of block) {
      const values = plain.map(({ name }, index): [string, readonly string[]] => [
        name,
        membersOf(String(texts[index])),
      ]);
      builder.add(Number(seconds), clicked === true, new Map(values));
    }
  }
  return builder.finish();
}

function membersOf(text: string): readonly string[] {
  return text === '' ? [] : text.split(MEMBER_SEPARATOR);
}
