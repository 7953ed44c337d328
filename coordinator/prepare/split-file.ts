/**
 * The split file: CSV or Parquet with the columns `row` (number of the row in the logs, from 0 in
 * order of reading), `task` (the task's key; values of several task columns joined by U+001F or by
 * `|`) and `role`: train-support, train-query, validation-support, validation-query, test-support
 * or test-query, or train for rows of training tasks that are neither and train the trunk only. It fixes
 * every split. Rows that it does not name are left out, and no row is capped.
 * Becomes the table `placed` (row, split 0/1/2, role 0 support, 1 query, 2 trunk).
 */

import { stat } from 'node:fs/promises';
import { QianmoError } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import { type DuckSession, shortDuckMessage } from '../logs/duckdb-session.js';
import type { RawLogs } from '../logs/log-reading.js';
import { literal } from '../logs/sql.js';
import { describeKey } from './task-division.js';

const TRUNK_ROLE = 'train';
const TASK_ROLES = ['train', 'validation', 'test'].flatMap((split) => [
  `${split}-support`,
  `${split}-query`,
]);
const ROLES = [...TASK_ROLES, TRUNK_ROLE];

/** @throws QianmoError of kind `data` if the file does not fit the logs. */
export async function readSplitFile(
  path: string,
  logs: RawLogs,
  session: DuckSession,
): Promise<void> {
  await stat(path).catch((cause: unknown) => {
    throw systemFailure(cause, 'reading the split file', `data.splitFile: ${path}`);
  });
  const scan = /\.(parquet|pq)$/i.test(path)
    ? `read_parquet(${literal(path)})`
    : `read_csv(${literal(path)}, header = true, all_varchar = true)`;
  try {
    await session.run(
      `CREATE TABLE split_file AS SELECT TRY_CAST(row AS BIGINT) AS row,
        replace(CAST(task AS VARCHAR), '|', chr(31)) AS task, CAST(role AS VARCHAR) AS role,
        CAST(row AS VARCHAR) AS row_text FROM ${scan}`,
    );
  } catch (cause) {
    if (cause instanceof QianmoError) throw cause;
    throw misfit(path, 'columns row, task and role', shortDuckMessage(cause));
  }
  await checkSplitFile(path, logs, session);
  const place = `list_position([${TASK_ROLES.map(literal).join(', ')}], role) - 1`;
  const isTrunk = `role = ${literal(TRUNK_ROLE)}`;
  await session.run(
    `CREATE TABLE placed AS SELECT row,
      CAST(CASE WHEN ${isTrunk} THEN 0 ELSE floor((${place}) / 2) END AS INTEGER) AS split,
      CAST(CASE WHEN ${isTrunk} THEN 2 ELSE (${place}) % 2 END AS INTEGER) AS role FROM split_file`,
  );
}

async function checkSplitFile(path: string, logs: RawLogs, session: DuckSession): Promise<void> {
  const [badRow] = await session.row(
    `SELECT coalesce(row_text, 'nothing') FROM split_file
      WHERE row IS NULL OR row < 0 OR row >= ${logs.rowCount} LIMIT 1`,
  );
  if (badRow !== undefined)
    throw misfit(path, `rows from 0 to ${logs.rowCount - 1}`, `row ${String(badRow)}`);
  const [badRole, ofRow] = await session.row(
    `SELECT coalesce(role, 'nothing'), row_text FROM split_file
      WHERE role IS NULL OR role NOT IN (${ROLES.map(literal).join(', ')}) ORDER BY row LIMIT 1`,
  );
  if (badRole !== undefined)
    throw misfit(
      path,
      `a role of ${ROLES.join(', ')}`,
      `"${String(badRole)}" for row ${String(ofRow)}`,
    );
  const [repeated] = await session.row(
    'SELECT CAST(row AS VARCHAR) FROM split_file GROUP BY row HAVING count(*) > 1 ORDER BY row LIMIT 1',
  );
  if (repeated !== undefined)
    throw misfit(path, 'each row once', `row ${String(repeated)} more than once`);
  const [row, named, found] = await session.row(
    `SELECT CAST(s.row AS VARCHAR), coalesce(s.task, ''), j.key
      FROM split_file s JOIN judged j ON s.row = j.row
      WHERE s.task IS DISTINCT FROM replace(j.key, '|', chr(31)) ORDER BY s.row LIMIT 1`,
  );
  if (row !== undefined)
    throw misfit(
      path,
      `task ${describeKey(String(found))} for row ${String(row)}, as in the logs`,
      `task ${describeKey(String(named))}`,
    );
}

function misfit(path: string, expected: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the split file does not fit the logs',
    where: path,
    expected,
    found,
    cure: 'write the split file from the same logs, read in the order of their sorted paths',
  });
}
