/**
 * The rows that belong to no task and train the trunk: those of small training tasks (`data.trunkRows`) and those
 * with the role train in the split file. They are put into batches of bounded size, in the order of a seeded hash,
 * which follow the tasks in the catalog. A batch has the rows of one label, and of one fold of the target encodings, so that
 * none reads a label of its own adgroup.
 *
 * Creates the table `trunk_keys` of the small tasks that train, and if there is such a row the table
 * `trunk_places` (row, task, fold) and the view `trunk_rows`, which has the columns of `task_rows`.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { seededHash } from '../logs/sql.js';
import { rowLabelsOf, storesLabels } from './row-labels.js';
import { encodingFoldSql } from './target-encodings.js';

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

/** @returns null if no row trains the trunk. */
export async function divideTrunkRows(
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
    `CREATE VIEW trunk_rows AS SELECT p.task, 0 AS split, j.* EXCLUDE (key, code)
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
