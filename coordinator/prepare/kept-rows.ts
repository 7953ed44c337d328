/**
 * Finds the rows that tasks keep under the caps, before anything is encoded: of a task with more rows than the
 * caps allow, the first and the last kept row in its order, as the table `kept_spans` (task, from_order,
 * from_row, to_order, to_row). Only orders and row numbers are read and sorted for this.
 *
 * Logs that are grouped and ordered by time are not sorted. Their order is checked instead.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { seededHash } from '../logs/sql.js';
import { describeKey } from './task-division.js';

/** SQL clauses over `task_rows e` that leave the kept rows in the order of the store. */
export interface KeptRows {
  /** Joins `kept_spans` and leaves out the rows beyond the caps; empty if there are none. */
  readonly filter: string;
  /** The terms of ORDER BY. */
  readonly order: string;
}

/** The places of a task's first and last kept row among its ordered rows. */
const FIRST_PLACE = '(t.boundary - t.support)';
const LAST_PLACE = '(t.boundary + t.query - 1)';
const IS_CAPPED = 't.rows > t.support + t.query';

/** @throws QianmoError of kind `data` if grouped rows that are split by time are out of order. */
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
    await demandOrderOfTime(placeOfRow, session);
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
async function demandOrderOfTime(
  placeOfRow: (row: number) => string,
  session: DuckSession,
): Promise<void> {
  const [row, key, time, timeBefore] = await session.row(
    `SELECT CAST(p.row AS DOUBLE), t.key, p.in_order, p.before FROM places p JOIN tasks t ON p.task = t.task
      WHERE p.in_order < p.before ORDER BY p.row LIMIT 1`,
  );
  if (row === undefined) return;
  throw new QianmoError({
    kind: 'data',
    what: 'the rows of a task are not in order of time, as data.grouped says',
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
