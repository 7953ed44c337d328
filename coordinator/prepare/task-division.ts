/**
 * Decides which tasks there are, which are held out, and how many rows of each are support and query.
 * Creates the table `tasks` (task, key, code, split 0/1/2, rows, first_time, boundary, support, query, and label
 * if tasks differ in it), the view `task_rows` of the accepted rows of these tasks, and the view `encodable`
 * of these and of the rows that train the trunk (`trunk-rows.ts`).
 *
 * By time, support is the last `supportRowsMax` rows of a task's early part and query the first
 * `queryRowsMax` of its later part, so the rows on both sides are nearest to the moment of adaptation.
 * By hash, rows are ordered by the seeded hash of their number and divided in the same way.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import { noticeEvent, type RunEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { requireOneLabelPerTask, rowLabelsOf, storesLabels } from './row-judgement.js';
import { literal, seededHash } from '../logs/sql.js';

interface TaskDivision {
  readonly taskCount: number;
  readonly trainTaskCount: number;
  /** Tasks with too few rows, whether they are left out or train the trunk. */
  readonly smallTaskCount: number;
  readonly tooSmall: SmallTasks;
  /** Null if no row trains the trunk only. */
  readonly trunk: TrunkRows | null;
  /** Accepted rows that the split file does not name, or that are too late to train. */
  readonly unplacedRowCount: number;
}

/** Tasks that have too few rows and are left out. */
interface SmallTasks {
  readonly taskCount: number;
  readonly rowCount: number;
  /** The number of these tasks with too few support rows; the others have too few query rows. */
  readonly fewSupportTaskCount: number;
}

/** Upper end of the hash's range: 2^64. */
const HASH_RANGE = '18446744073709551616.0';

/** @throws QianmoError of kind `usage` for contradictory bounds, `data` for rows that are not as the config says. */
export async function divideTasks(
  config: RunConfig,
  placedBySplitFile: boolean,
  placeOfRow: (row: number) => string,
  session: DuckSession,
): Promise<TaskDivision> {
  const { rowSplit } = config.data;
  for (const part of ['support', 'query'] as const)
    if (rowSplit[`${part}RowsMin`] > rowSplit[`${part}RowsMax`])
      throw errorOf('usage', `${part}RowsMin is above ${part}RowsMax`, {
        where: `data.rowSplit.${part}RowsMin`,
        expected: `at most ${rowSplit[`${part}RowsMax`]}`,
        found: String(rowSplit[`${part}RowsMin`]),
        cure: 'lower this bound or raise the other',
      });
  const labels = rowLabelsOf(config.data);
  const labelSql = storesLabels(labels) ? ', min(j.label) AS label, max(j.label) AS label_max' : '';
  const isLarge = `support >= ${rowSplit.supportRowsMin} AND query >= ${rowSplit.queryRowsMin}`;
  if (placedBySplitFile) await groupPlacedRows(labelSql, session);
  else await groupRows(config, labelSql, session);
  const tooLateRowCount = await cutInTime(config, { isLarge, labelSql }, session);
  const isPlaced = placedBySplitFile || tooLateRowCount !== null;
  if (labels.length > 1) await requireOneLabelPerTask(labels, session);
  if (config.data.grouped) await requireGroupedTasks(placeOfRow, session);
  await session.run(
    `CREATE TABLE tasks AS SELECT
      CAST(row_number() OVER (ORDER BY ${config.data.grouped ? 'first_row' : 'key'}) - 1 AS INTEGER) AS task, *
      FROM (${splitSql(config, isLarge, isPlaced)}) ORDER BY task`,
  );
  const isSmall = `rows > 0 AND NOT (${isLarge})`;
  const [small = 0, unplaced = 0] = (
    await session.row(
      `SELECT CAST(count(*) FILTER (${isSmall}) AS DOUBLE),
        ${placedBySplitFile ? 'CAST((SELECT count(*) FROM accepted) AS DOUBLE) - coalesce(sum(rows + trunk_rows), 0)' : '0::DOUBLE'}
        FROM task_sizes`,
    )
  ).map(Number);
  const [taskCount = 0, trainTaskCount = 0] = (
    await session.row(
      `SELECT CAST(count(*) AS DOUBLE), CAST(count(*) FILTER (split = 0) AS DOUBLE) FROM tasks`,
    )
  ).map(Number);
  await session.run(
    `CREATE VIEW task_rows AS SELECT t.task, t.split, j.* EXCLUDE (key)
      ${placedBySplitFile ? ', p.role' : ''}
      FROM accepted j JOIN tasks t ON j.code = t.code
      ${placedBySplitFile ? 'JOIN placed p ON j.row = p.row WHERE p.role < 2' : ''}`,
  );
  const beside = { placedBySplitFile, isSmall, splitSql: smallSplitSql(config, isPlaced) };
  const trunk = await divideTrunkRows(config, beside, session);
  await session.run(
    `CREATE VIEW encodable AS FROM task_rows ${trunk === null ? '' : 'UNION ALL BY NAME FROM trunk_rows'}`,
  );
  const tooSmall = await smallTasks(config, isSmall, session);
  const counts = { taskCount, trainTaskCount, smallTaskCount: small };
  return { ...counts, tooSmall, trunk, unplacedRowCount: tooLateRowCount ?? unplaced };
}

/** @throws QianmoError of kind `data` if no task is left to train on. */
export function requireTrainingTasks(
  config: RunConfig,
  { taskCount, trainTaskCount, smallTaskCount }: TaskDivision,
): void {
  if (taskCount === 0) throw noTasks(config, smallTaskCount);
  if (trainTaskCount > 0) return;
  throw errorOf('data', 'no task is left to train on', {
    where: 'data.taskSplit',
    expected: 'at least one training task',
    found: `${taskCount} tasks, all held out`,
    cure: 'lower validationShare and testShare, or provide logs with more tasks',
  });
}

interface CutTasks {
  /** SQL that is true for a task of `task_sizes` that is large enough. */
  readonly isLarge: string;
  readonly labelSql: string;
}

/**
 * Leaves the rows after `trainUntil` to test tasks: takes those of other tasks out of `accepted`, and divides the rows of all
 * tasks again, with the splits that they had before.
 *
 * @returns the number of rows that are left out; null without a cut.
 * @throws QianmoError of kind `data` if no task trains after the cut.
 */
async function cutInTime(
  config: RunConfig,
  { isLarge, labelSql }: CutTasks,
  session: DuckSession,
): Promise<number | null> {
  const { trainUntil } = config.data.taskSplit;
  if (trainUntil === undefined) return null;
  const [until] = await session.row(
    typeof trainUntil === 'number'
      ? `SELECT ${trainUntil}::DOUBLE`
      : `SELECT epoch(TRY_CAST(${literal(trainUntil)} AS TIMESTAMPTZ))`,
  );
  if (until === null || until === undefined)
    throw errorOf('usage', 'the time until which rows train is none', {
      where: 'data.taskSplit.trainUntil',
      expected: 'a number, or a timestamp such as 2026-11-01 20:15:00',
      found: String(trainUntil),
      cure: 'write it as data.time has it',
    });
  const isEarly = `j.time <= ${Number(until)}::DOUBLE`;
  await session.run(`CREATE TABLE tasks AS ${splitSql(config, isLarge, false)}`);
  await session.run(
    `CREATE TABLE cut_tasks AS SELECT code, split FROM tasks UNION ALL
      SELECT code, ${smallSplitSql(config, false)} FROM task_sizes WHERE NOT (${isLarge})`,
  );
  await session.run('DROP TABLE tasks; DROP TABLE task_sizes; ALTER VIEW accepted RENAME TO uncut');
  await session.run(
    `CREATE VIEW accepted AS FROM uncut j
      WHERE ${isEarly} OR j.code IN (SELECT code FROM cut_tasks WHERE split = 2)`,
  );
  await groupRows(config, labelSql, session, isEarly);
  const trains = `EXISTS (FROM task_sizes WHERE placed_split = 0 AND ${isLarge})`;
  const [tooLate, first, last, isCause] = await session.row(
    `SELECT CAST(count(*) - (SELECT coalesce(sum(rows), 0) FROM task_sizes) AS DOUBLE), min(time), max(time),
      EXISTS (FROM cut_tasks WHERE split = 0) AND NOT ${trains} FROM uncut`,
  );
  if (isCause === true && Number(tooLate) > 0)
    throw errorOf('data', 'no task is left to train on before the cut in time', {
      where: `data.taskSplit.trainUntil: ${trainUntil}`,
      expected: 'a time until which training tasks have enough rows, in the unit of data.time',
      found: `${Number(until)}, and logs from ${String(first)} to ${String(last)}`,
      cure: 'correct the time or its unit (seconds or milliseconds), or choose a later one',
    });
  return Number(tooLate);
}

/** The event about tasks that are left out. Which rows are too few is told where a split file or a cut in time may be why. */
export function smallTasksLeftOut(
  { taskCount, rowCount, fewSupportTaskCount }: SmallTasks,
  { data: { rowSplit, splitFile, taskSplit, trunkRows } }: RunConfig,
): RunEvent {
  const { supportRowsMin, queryRowsMin } = rowSplit;
  const fewerOf = (count: number, least: number, role: string): string[] =>
    count === 0 ? [] : [`${count} with fewer than ${least} ${role} rows (${role}RowsMin)`];
  const smallness =
    (splitFile ?? taskSplit.trainUntil) === undefined
      ? `fewer than ${supportRowsMin + queryRowsMin} rows (supportRowsMin ${supportRowsMin}, queryRowsMin ${queryRowsMin})`
      : [
          ...fewerOf(fewSupportTaskCount, supportRowsMin, 'support'),
          ...fewerOf(taskCount - fewSupportTaskCount, queryRowsMin, 'query'),
        ].join(', ');
  const areHeldOut = trunkRows === 'small-tasks';
  return noticeEvent(
    'small-tasks-left-out',
    `${counted(taskCount, areHeldOut ? 'small held-out task' : 'task')} ` +
      `(${counted(rowCount, 'row')}) left out: ${smallness}` +
      (areHeldOut
        ? ''
        : '; with data.trunkRows: small-tasks, those of training tasks train the trunk'),
  );
}

/** The small tasks whose rows do not train the trunk. */
async function smallTasks(
  { data: { rowSplit } }: RunConfig,
  isSmall: string,
  session: DuckSession,
): Promise<SmallTasks> {
  const [taskCount = 0, rowCount = 0, fewSupportTaskCount = 0] = (
    await session.row(
      `SELECT CAST(count(*) AS DOUBLE), CAST(coalesce(sum(rows), 0) AS DOUBLE),
        CAST(count(*) FILTER (support < ${rowSplit.supportRowsMin}) AS DOUBLE)
        FROM task_sizes ANTI JOIN trunk_keys USING (key) WHERE ${isSmall}`,
    )
  ).map(Number);
  return { taskCount, rowCount, fewSupportTaskCount };
}

/**
 * SQL of the split of a small task of `task_sizes`. By first-seen, a small task trains if it was seen before
 * every task that is held out.
 */
function smallSplitSql(config: RunConfig, isPlaced: boolean): string {
  if (isPlaced) return 'placed_split';
  if (config.data.taskSplit.by === 'hash') return hashSplitSql(config);
  const firstHeldOut = `(SELECT row(first_time, first_row) FROM tasks WHERE split <> 0
    ORDER BY first_time, first_row LIMIT 1)`;
  return `CASE WHEN row(first_time, first_row) > ${firstHeldOut} THEN 1 ELSE 0 END`;
}

/** @param isEarly SQL of the rows before the cut in time, of which no query row of a test task is one. */
async function groupRows(
  config: RunConfig,
  labelSql: string,
  session: DuckSession,
  isEarly?: string,
): Promise<void> {
  const { supportShare, supportRowsMin, supportRowsMax, queryRowsMin, queryRowsMax } =
    config.data.rowSplit;
  // The early part gets its share, but each side keeps the rows that it must have.
  const boundary = `greatest(least(greatest(floor(rows * ${supportShare}::DOUBLE + 0.5)::BIGINT,
    ${supportRowsMin}), rows - ${queryRowsMin}), ${isEarly === undefined ? '0' : 'CASE WHEN placed_split = 2 THEN early_rows ELSE 0 END'})`;
  const [early, placed] =
    isEarly === undefined
      ? ['', '']
      : [
          `, count(*) FILTER (${isEarly}) AS early_rows`,
          'JOIN (SELECT code, split AS placed_split FROM cut_tasks) USING (code)',
        ];
  await session.run(
    `CREATE TABLE task_sizes AS SELECT CAST(code AS VARCHAR) AS key, *, least(boundary, ${supportRowsMax}) AS support,
        least(rows - boundary, ${queryRowsMax}) AS query
      FROM (SELECT *, ${boundary} AS boundary FROM
        (SELECT code, count(*) AS rows, min(row) AS first_row, max(row) AS last_row,
          min(time) AS first_time${labelSql}${early} FROM accepted j GROUP BY code) ${placed})`,
  );
}

async function groupPlacedRows(labelSql: string, session: DuckSession): Promise<void> {
  await session.run(
    `CREATE TABLE task_sizes AS SELECT CAST(code AS VARCHAR) AS key, *, support AS boundary FROM
      (SELECT j.code, count(*) FILTER (p.role < 2) AS rows, count(*) FILTER (p.role = 2) AS trunk_rows,
        min(j.row) AS first_row, max(j.row) AS last_row,
        min(j.time) AS first_time, min(p.split) AS placed_split, max(p.split) AS placed_split_max,
        count(*) FILTER (p.role = 0) AS support, count(*) FILTER (p.role = 1) AS query${labelSql}
        FROM accepted j JOIN placed p ON j.row = p.row GROUP BY j.code)`,
  );
  const [key] = await session.row(
    'SELECT key FROM task_sizes WHERE placed_split <> placed_split_max ORDER BY key LIMIT 1',
  );
  if (key !== undefined)
    throw errorOf('data', 'the split file puts one task into two splits', {
      where: 'data.splitFile',
      expected: 'all rows of a task in train, validation or test',
      found: `task ${describeKey(String(key))} in two of them`,
      cure: 'correct the roles of its rows',
    });
}

/** SQL of the split (0, 1 or 2) of a task of `task_sizes` by its key; 0 where tasks are split otherwise. */
export function hashSplitSql({ seed, data: { taskSplit } }: RunConfig): string {
  if (taskSplit.by !== 'hash') return '0';
  const testShare = `${taskSplit.testShare}::DOUBLE`;
  const heldOutShare = `(${testShare} + ${taskSplit.validationShare}::DOUBLE)`;
  const draw = `(${seededHash(seed, 'task split', 'key')}::DOUBLE / ${HASH_RANGE}::DOUBLE)`;
  return `CASE WHEN ${draw} < ${testShare} THEN 2 WHEN ${draw} < ${heldOutShare} THEN 1 ELSE 0 END`;
}

function splitSql(config: RunConfig, large: string, isPlaced: boolean): string {
  const { taskSplit } = config.data;
  const label = storesLabels(rowLabelsOf(config.data)) ? ', label' : '';
  const fields = `key, code, rows, first_row, last_row, first_time, boundary, support, query${label}`;
  if (isPlaced) return `SELECT ${fields}, placed_split AS split FROM task_sizes WHERE ${large}`;
  if (taskSplit.by === 'hash')
    return `SELECT ${fields}, ${hashSplitSql(config)} AS split FROM task_sizes WHERE ${large}`;
  const testShare = `${taskSplit.testShare}::DOUBLE`;
  const heldOutShare = `(${testShare} + ${taskSplit.validationShare}::DOUBLE)`;
  const place = 'row_number() OVER (ORDER BY first_time DESC, first_row DESC)';
  return `SELECT ${fields}, CASE WHEN place <= floor(total * ${testShare} + 0.5) THEN 2
      WHEN place <= floor(total * ${heldOutShare} + 0.5) THEN 1 ELSE 0 END AS split
    FROM (SELECT *, ${place} AS place, count(*) OVER () AS total FROM task_sizes WHERE ${large})`;
}

function noTasks(config: RunConfig, tooSmallTaskCount: number): QianmoError {
  const { supportRowsMin, queryRowsMin } = config.data.rowSplit;
  if (tooSmallTaskCount === 0)
    return errorOf('data', 'no row of the logs is left', {
      where: 'data.logs',
      expected: 'at least one row that is accepted',
      found: 'all rows are left out by data.where or data.splitFile',
      cure: 'correct data.where or data.splitFile',
    });
  return errorOf('data', 'every task has too few rows', {
    where: 'data.task',
    expected: `tasks with at least ${supportRowsMin} support and ${queryRowsMin} query rows`,
    found: `${tooSmallTaskCount} tasks, all smaller`,
    cure: 'name coarser task columns, provide more logs, or lower supportRowsMin and queryRowsMin',
  });
}

/** @throws QianmoError of kind `data` if the rows of a task are not contiguous. */
async function requireGroupedTasks(
  placeOfRow: (row: number) => string,
  session: DuckSession,
): Promise<void> {
  const [key, row] = await session.row(
    `SELECT key, CAST(first_row AS DOUBLE) FROM
      (SELECT key, first_row, lag(last_row) OVER (ORDER BY first_row) AS last_before FROM task_sizes)
      WHERE first_row < last_before ORDER BY first_row LIMIT 1`,
  );
  if (key === undefined) return;
  throw errorOf('data', 'the logs are not grouped by task as data.grouped says', {
    where: `${placeOfRow(Number(row))}, task ${describeKey(String(key))}`,
    expected: 'all rows of a task one after another',
    found: 'rows of another task between them',
    cure: 'set data.grouped to false, or sort the logs by the task columns',
  });
}

export function describeKey(key: string): string {
  return `"${key.replaceAll('\u001f', '", "')}"`;
}

/** SQL clauses over `task_rows e` that leave the kept rows in the order of the store. */
interface KeptRows {
  /** Joins `kept_spans` and leaves out the rows beyond the caps; empty if there are none. */
  readonly filter: string;
  readonly order: string;
}

/** The places of a task's first and last kept row among its ordered rows. */
const FIRST_PLACE = '(t.boundary - t.support)';
const LAST_PLACE = '(t.boundary + t.query - 1)';
const IS_CAPPED = 't.rows > t.support + t.query';

/**
 * Finds the rows that tasks keep under the caps, before anything is encoded. Only orders and row numbers are read and
 * sorted for this. Logs that are grouped and ordered by time are not sorted: their order is checked.
 *
 * @throws QianmoError of kind `data` if grouped rows that are split by time are out of order.
 */
export async function findKeptRows(
  config: RunConfig,
  placedBySplitFile: boolean,
  placeOfRow: (row: number) => string,
  session: DuckSession,
): Promise<KeptRows> {
  if (placedBySplitFile) return { filter: '', order: 'e.task, e.role, e.time, e.row' };
  const { data, seed } = config;
  const [capped] = await session.row(`SELECT true FROM tasks t WHERE ${IS_CAPPED} LIMIT 1`);
  if (data.grouped && data.rowSplit.by === 'time') {
    await createPlaces(null, session);
    await requireOrderOfTime(placeOfRow, session);
    // The order of reading, from which joins deviate here and there. To sort what is nearly sorted is cheap.
    return { filter: await spanFilter('e.time', session), order: 'e.row' };
  }
  const orderOf = (rows: string): string =>
    data.rowSplit.by === 'hash'
      ? seededHash(seed, 'row split', `CAST(${rows}.row AS VARCHAR)`)
      : `${rows}.time`;
  const order = `e.task, ${orderOf('e')}, e.row`;
  if (capped === undefined) return { filter: '', order };
  await createPlaces(orderOf('j'), session);
  return { filter: await spanFilter(orderOf('e'), session), order };
}

/**
 * The table `places` with the first and the last kept row of each capped task.
 *
 * @param order null for grouped logs in order of time: then rows that are earlier than the row before them in
 *   their task are in the table, too.
 */
async function createPlaces(order: string | null, session: DuckSession): Promise<void> {
  const isGrouped = order === null;
  await session.run(
    `CREATE TABLE places AS
      SELECT p.*, ${IS_CAPPED} AND place = ${FIRST_PLACE} AS is_first, ${IS_CAPPED} AND place = ${LAST_PLACE} AS is_last
      FROM (SELECT *, row_number() OVER in_task - 1 AS place
          ${isGrouped ? ', lag(in_order) OVER in_task AS before' : ''} FROM
          (SELECT t.task, ${order ?? 'j.time'} AS in_order, j.row FROM accepted j JOIN tasks t ON j.code = t.code
            WHERE ${isGrouped ? 'true' : IS_CAPPED})
          WINDOW in_task AS (PARTITION BY task ORDER BY ${isGrouped ? 'row' : 'in_order, row'})) p
        JOIN tasks t ON p.task = t.task
      WHERE is_first OR is_last ${isGrouped ? 'OR in_order < before' : ''}`,
  );
}

/** Grouped rows are not sorted by time. Out of order, future rows would become support rows. */
async function requireOrderOfTime(
  placeOfRow: (row: number) => string,
  session: DuckSession,
): Promise<void> {
  const [row, key, time, timeBefore] = await session.row(
    `SELECT CAST(p.row AS DOUBLE), t.key, p.in_order, p.before FROM places p JOIN tasks t ON p.task = t.task
      WHERE p.in_order < p.before ORDER BY p.row LIMIT 1`,
  );
  if (row === undefined) return;
  throw errorOf('data', 'the rows of a task are not in order of time, as data.grouped says', {
    where: `${placeOfRow(Number(row))}, task ${describeKey(String(key))}`,
    expected: `${Number(timeBefore)} or later, the time of the row before it`,
    found: String(time),
    cure: 'set data.grouped to false, or sort the logs by the task columns and the time',
  });
}

async function spanFilter(order: string, session: DuckSession): Promise<string> {
  const end = (column: string, isEnd: string): string =>
    `any_value(${column}) FILTER (WHERE ${isEnd})`;
  await session.run(
    `CREATE TABLE kept_spans AS SELECT task,
        ${end('in_order', 'is_first')} AS from_order, ${end('row', 'is_first')} AS from_row,
        ${end('in_order', 'is_last')} AS to_order, ${end('row', 'is_last')} AS to_row
      FROM places WHERE is_first OR is_last GROUP BY task`,
  );
  return `LEFT JOIN kept_spans s ON e.task = s.task WHERE s.task IS NULL OR
    ((${order} > s.from_order OR (${order} = s.from_order AND e.row >= s.from_row)) AND
     (${order} < s.to_order OR (${order} = s.to_order AND e.row <= s.to_row)))`;
}

export interface TrunkRows {
  readonly batchCount: number;
  readonly rowCount: number;
  readonly smallTaskCount: number;
  readonly smallTaskRowCount: number;
}

/** Enough rows for a batch to cost little more than its rows, and few enough for batches to mix. */
export const TRUNK_BATCH_ROWS_MAX = 128;

/** The key of a batch in the catalog, for messages. */
export function trunkBatchKey(batch: number): string {
  return `trunk rows ${batch}`;
}

interface RowsBeside {
  readonly placedBySplitFile: boolean;
  /** SQL over `task_sizes` that is true for a task that is too small. */
  readonly isSmall: string;
  /** SQL of its split. */
  readonly splitSql: string;
}

/**
 * Rows that belong to no task and train the trunk: those of small training tasks (`data.trunkRows`) and those with the
 * role train in the split file. They are put into batches in the order of a seeded hash. A batch has the rows of one
 * label, and of one fold of the target encodings, so that none reads a label of its own adgroup.
 */
async function divideTrunkRows(
  config: RunConfig,
  { placedBySplitFile, isSmall, splitSql }: RowsBeside,
  session: DuckSession,
): Promise<TrunkRows | null> {
  const takesSmallTasks = config.data.trunkRows === 'small-tasks';
  await session.run(
    `CREATE TABLE trunk_keys AS SELECT key, code, rows FROM task_sizes
      WHERE ${takesSmallTasks ? `${isSmall} AND (${splitSql}) = 0` : 'false'}`,
  );
  if (!takesSmallTasks && !placedBySplitFile) return null;
  const hasLabels = storesLabels(rowLabelsOf(config.data));
  const chosen = placedBySplitFile
    ? `JOIN placed p ON j.row = p.row LEFT JOIN trunk_keys k ON j.code = k.code
        WHERE p.role = 2 OR k.code IS NOT NULL`
    : 'JOIN trunk_keys k ON j.code = k.code';
  await session.run(
    `CREATE TABLE trunk_places AS SELECT row, fold,
        CAST((SELECT count(*) FROM tasks) + dense_rank() OVER (ORDER BY label, fold, batch) - 1 AS INTEGER) AS task
      FROM (SELECT *, (row_number() OVER (PARTITION BY label, fold ORDER BY place, row) - 1) // ${TRUNK_BATCH_ROWS_MAX} AS batch
        FROM (SELECT j.row, ${hasLabels ? 'j.label' : '0'} AS label, ${encodingFoldSql(config, 'j.key')} AS fold,
          ${seededHash(config.seed, 'trunk rows', 'CAST(j.row AS VARCHAR)')} AS place
          FROM accepted j ${chosen}))`,
  );
  await session.run(
    `CREATE VIEW trunk_rows AS SELECT p.task, 0 AS split, j.* EXCLUDE (key)
      ${placedBySplitFile ? ', 1 AS role' : ''} FROM accepted j JOIN trunk_places p ON j.row = p.row`,
  );
  const [batchCount = 0, rowCount = 0, smallTaskCount = 0, smallTaskRowCount = 0] = (
    await session.row(
      `SELECT CAST(count(DISTINCT task) AS DOUBLE), CAST(count(*) AS DOUBLE),
        (SELECT CAST(count(*) AS DOUBLE) FROM trunk_keys),
        (SELECT CAST(coalesce(sum(rows), 0) AS DOUBLE) FROM trunk_keys) FROM trunk_places`,
    )
  ).map(Number);
  return rowCount === 0 ? null : { batchCount, rowCount, smallTaskCount, smallTaskRowCount };
}

/** SQL of the fold of a training task by its key, from 0; 0 without target encodings. */
export function encodingFoldSql({ seed, data }: RunConfig, key: string): string {
  const { targetEncodings } = data;
  if (targetEncodings === undefined) return '0::INTEGER';
  return `CAST(${seededHash(seed, 'encoding fold', key)} % ${targetEncodings.folds} AS INTEGER)`;
}
