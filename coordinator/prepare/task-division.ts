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
import type { RunEvent } from '../../shared/events/run-events.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { rowLabelsOf, storesLabels } from './row-labels.js';
import { demandOneLabelPerTask } from './task-labels.js';
import { plainSpelling, seededHash } from '../logs/sql.js';
import { divideTrunkRows, type TrunkRows } from './trunk-rows.js';
import { smallTasksNotice } from '../../coordinator/prepare/prepare-messages.js';

export interface TaskDivision {
  readonly taskCount: number;
  readonly tooSmall: SmallTasks;
  /** Null if no row trains the trunk only. */
  readonly trunk: TrunkRows | null;
  /** Accepted rows that the split file does not name. */
  readonly unplacedRowCount: number;
  /** Null if no two names differ only in case or spaces. */
  readonly alike: AlikeTasks | null;
}

/** Tasks whose names differ only in case or spaces. */
interface AlikeTasks {
  readonly taskCount: number;
  /** Names of two of them. */
  readonly names: [string, string];
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

/**
 * @throws QianmoError of kind `usage` for contradictory bounds, `data` when no task is left to
 * train on.
 */
export async function divideTasks(
  config: RunConfig,
  placedBySplitFile: boolean,
  placeOfRow: (row: number) => string,
  session: DuckSession,
): Promise<TaskDivision> {
  const { rowSplit } = config.data;
  for (const part of ['support', 'query'] as const)
    if (rowSplit[`${part}RowsMin`] > rowSplit[`${part}RowsMax`])
      throw new QianmoError({
        kind: 'usage',
        what: `${part}RowsMin is above ${part}RowsMax`,
        where: `data.rowSplit.${part}RowsMin`,
        expected: `at most ${rowSplit[`${part}RowsMax`]}`,
        found: String(rowSplit[`${part}RowsMin`]),
        cure: 'lower this bound or raise the other',
      });
  const labels = rowLabelsOf(config.data);
  const labelSql = storesLabels(labels) ? ', min(j.label) AS label, max(j.label) AS label_max' : '';
  if (placedBySplitFile) await groupPlacedRows(labelSql, session);
  else await groupRows(config, labelSql, session);
  if (labels.length > 1) await demandOneLabelPerTask(labels, session);
  if (config.data.grouped) await demandGroupedTasks(placeOfRow, session);
  const large = `support >= ${rowSplit.supportRowsMin} AND query >= ${rowSplit.queryRowsMin}`;
  await session.run(
    `CREATE TABLE tasks AS SELECT
      CAST(row_number() OVER (ORDER BY ${config.data.grouped ? 'first_row' : 'key'}) - 1 AS INTEGER) AS task, *
      FROM (${splitSql(config, large, placedBySplitFile)}) ORDER BY task`,
  );
  const isSmall = `rows > 0 AND NOT (${large})`;
  const [small, unplaced] = (
    await session.row(
      `SELECT CAST(count(*) FILTER (${isSmall}) AS DOUBLE),
        ${placedBySplitFile ? 'CAST((SELECT count(*) FROM accepted) AS DOUBLE) - coalesce(sum(rows + trunk_rows), 0)' : '0::DOUBLE'}
        FROM task_sizes`,
    )
  ).map(Number);
  const [taskCount, trainCount] = (
    await session.row(
      `SELECT CAST(count(*) AS DOUBLE), CAST(count(*) FILTER (split = 0) AS DOUBLE) FROM tasks`,
    )
  ).map(Number);
  if (taskCount === 0) throw noTasks(config, small ?? 0);
  if (trainCount === 0)
    throw new QianmoError({
      kind: 'data',
      what: 'no task is left to train on',
      where: 'data.taskSplit',
      expected: 'at least one training task',
      found: `${taskCount ?? 0} tasks, all held out`,
      cure: 'lower validationShare and testShare, or provide logs with more tasks',
    });
  await session.run(
    `CREATE VIEW task_rows AS SELECT t.task, t.split, j.* EXCLUDE (key, code)
      ${placedBySplitFile ? ', p.role' : ''}
      FROM accepted j JOIN tasks t ON j.code = t.code
      ${placedBySplitFile ? 'JOIN placed p ON j.row = p.row WHERE p.role < 2' : ''}`,
  );
  const trunk = await divideTrunkRows(
    config,
    { placedBySplitFile, isSmall, splitSql: smallSplitSql(config, placedBySplitFile) },
    session,
  );
  await session.run(
    `CREATE VIEW encodable AS FROM task_rows ${trunk === null ? '' : 'UNION ALL BY NAME FROM trunk_rows'}`,
  );
  const tooSmall = await smallTasks(config, isSmall, session);
  const alike = await alikeTasks(session);
  return { taskCount: taskCount ?? 0, tooSmall, trunk, unplacedRowCount: unplaced ?? 0, alike };
}

/** Small tasks, of which those with too few support rows are counted only where a split file names the rows. */
type FewerKnown = Pick<SmallTasks, 'taskCount' | 'rowCount'> & Partial<SmallTasks>;

/** The event about tasks that are left out. */
export function smallTasksLeftOut(
  { taskCount, rowCount, fewSupportTaskCount }: FewerKnown,
  { data: { rowSplit, splitFile, trunkRows } }: RunConfig,
): RunEvent {
  const { supportRowsMin, queryRowsMin } = rowSplit;
  return smallTasksNotice({
    ...{ taskCount, rowCount, supportRowsMin, queryRowsMin },
    ...(splitFile === undefined || fewSupportTaskCount === undefined
      ? {}
      : { fewSupportTaskCount }),
    areHeldOut: trunkRows === 'small-tasks',
  });
}

async function alikeTasks(session: DuckSession): Promise<AlikeTasks | null> {
  const [taskCount, first, second] = await session.row(
    `SELECT CAST(sum(tasks) OVER () AS DOUBLE), first, second FROM
      (SELECT count(*) AS tasks, min(key) AS first, max(key) AS second FROM task_sizes
        WHERE rows > 0 GROUP BY ${plainSpelling('key')} HAVING count(*) > 1) ORDER BY first LIMIT 1`,
  );
  if (taskCount === undefined) return null;
  const nameOf = (key: unknown): string => String(key).replaceAll('\u001f', ', ');
  return { taskCount: Number(taskCount), names: [nameOf(first), nameOf(second)] };
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
function smallSplitSql(config: RunConfig, placedBySplitFile: boolean): string {
  if (placedBySplitFile) return 'placed_split';
  if (config.data.taskSplit.by === 'hash') return hashSplitSql(config);
  const firstHeldOut = `(SELECT row(first_time, first_row) FROM tasks WHERE split <> 0
    ORDER BY first_time, first_row LIMIT 1)`;
  return `CASE WHEN row(first_time, first_row) > ${firstHeldOut} THEN 1 ELSE 0 END`;
}

async function groupRows(config: RunConfig, labelSql: string, session: DuckSession): Promise<void> {
  const { supportShare, supportRowsMin, supportRowsMax, queryRowsMin, queryRowsMax } =
    config.data.rowSplit;
  // The early part gets its share, but each side keeps the rows that it must have.
  const boundary = `greatest(least(greatest(floor(rows * ${supportShare}::DOUBLE + 0.5)::BIGINT,
    ${supportRowsMin}), rows - ${queryRowsMin}), 0)`;
  await session.run(
    `CREATE TABLE task_sizes AS SELECT CAST(code AS VARCHAR) AS key, *, least(boundary, ${supportRowsMax}) AS support,
        least(rows - boundary, ${queryRowsMax}) AS query
      FROM (SELECT *, ${boundary} AS boundary FROM
        (SELECT code, count(*) AS rows, min(row) AS first_row, max(row) AS last_row,
          min(time) AS first_time${labelSql} FROM accepted j GROUP BY code))`,
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
    throw new QianmoError({
      kind: 'data',
      what: 'the split file puts one task into two splits',
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

function splitSql(config: RunConfig, large: string, placedBySplitFile: boolean): string {
  const { taskSplit } = config.data;
  const label = storesLabels(rowLabelsOf(config.data)) ? ', label' : '';
  const fields = `key, code, rows, first_row, last_row, first_time, boundary, support, query${label}`;
  if (placedBySplitFile)
    return `SELECT ${fields}, placed_split AS split FROM task_sizes WHERE ${large}`;
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
    return new QianmoError({
      kind: 'data',
      what: 'no row of the logs is left',
      where: 'data.logs',
      expected: 'at least one row that is accepted',
      found: 'all rows are left out by data.where or data.splitFile',
      cure: 'correct data.where or data.splitFile',
    });
  return new QianmoError({
    kind: 'data',
    what: 'every task has too few rows',
    where: 'data.task',
    expected: `tasks with at least ${supportRowsMin} support and ${queryRowsMin} query rows`,
    found: `${tooSmallTaskCount} tasks, all smaller`,
    cure: 'name coarser task columns, provide more logs, or lower supportRowsMin and queryRowsMin',
  });
}

/** @throws QianmoError of kind `data` if the rows of a task are not contiguous. */
async function demandGroupedTasks(
  placeOfRow: (row: number) => string,
  session: DuckSession,
): Promise<void> {
  const [key, row] = await session.row(
    `SELECT key, CAST(first_row AS DOUBLE) FROM
      (SELECT key, first_row, lag(last_row) OVER (ORDER BY first_row) AS last_before FROM task_sizes)
      WHERE first_row < last_before ORDER BY first_row LIMIT 1`,
  );
  if (key === undefined) return;
  throw new QianmoError({
    kind: 'data',
    what: 'the logs are not grouped by task as data.grouped says',
    where: `${placeOfRow(Number(row))}, task ${describeKey(String(key))}`,
    expected: 'all rows of a task one after another',
    found: 'rows of another task between them',
    cure: 'set data.grouped to false, or sort the logs by the task columns',
  });
}

export function describeKey(key: string): string {
  return `"${key.replaceAll('\u001f', '", "')}"`;
}
