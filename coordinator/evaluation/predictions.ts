/** Per-row test predictions of every arm as a Parquet file, so that others can check the metrics. */

import { at, spanAt } from '../../shared/base/arrays.js';
import { rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DuckDBInstance, type DuckDBAppender } from '@duckdb/node-api';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import { makeFolders } from '../../shared/storage/file-bytes.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { FlatRows } from '../scoring/held-out-rows.js';
import { isOfValues, predictionOf } from '../scoring/metrics.js';

/**
 * Columns: `task` (the task's key; several columns are joined with U+001F), `row` (number of the
 * row in the logs, from 0), `clicks`, `impressions`, and for each arm a click probability, in a column
 * named after the arm with `_` for `-`. For values, `value` and `weight` take the place of the counts,
 * and arms have predicted values. The file holds the query rows of the test tasks, which are the rows
 * that the metrics are computed on.
 *
 * @throws QianmoError of kind `environment` if the file cannot be written. No partial file is left.
 */
export async function writePredictions(
  path: string,
  store: TaskStore,
  rows: FlatRows,
  logits: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  const unfinished = `${path}.unfinished`;
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    const arms = [...logits.keys()].map((arm) => `"${arm.replaceAll('-', '_')}" DOUBLE`).join(', ');
    const counts = isOfValues(rows)
      ? 'value FLOAT, weight FLOAT'
      : 'clicks FLOAT, impressions FLOAT';
    await connection.run(
      `CREATE TABLE predictions (task VARCHAR, "row" BIGINT, ${counts}, ${arms})`,
    );
    const appender = await connection.createAppender('predictions');
    appendRows(appender, store, rows, [...logits.values()]);
    appender.closeSync();
    const target = unfinished.replaceAll("'", "''");
    await connection.run(`COPY predictions TO '${target}' (FORMAT parquet, COMPRESSION zstd)`);
    await rename(unfinished, path);
  } catch (cause) {
    // If the folder does not exist, there is nothing to remove.
    await rm(unfinished, { force: true }).catch(() => undefined);
    throw errorOf('environment', 'the predictions cannot be written', {
      where: path,
      cure: 'check that the folder exists, is writable and has free space',
      cause,
    });
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/**
 * Called at the start of an evaluation, which may take hours before it has predictions to write.
 *
 * @throws QianmoError of kind `usage` if predictions cannot be written to the path.
 */
export async function requirePredictionsPath(path: string): Promise<void> {
  const refused = (expected: string, found: string): QianmoError =>
    errorOf('usage', 'the predictions cannot be written to this path', {
      where: path,
      expected,
      found,
      cure: 'for example: --predictions runs/predictions.parquet',
    });
  if (!path.endsWith('.parquet')) throw refused('a file that ends in .parquet', path);
  if ((await stat(path).catch(() => null))?.isDirectory() === true)
    throw refused('a file', 'a folder');
  try {
    await makeFolders(dirname(path));
  } catch (cause) {
    throw systemFailure(cause, 'making the folder of the predictions', path);
  }
}

function appendRows(
  appender: DuckDBAppender,
  store: TaskStore,
  rows: FlatRows,
  logits: readonly Float32Array[],
): void {
  const prediction = predictionOf(rows);
  const ofValues = isOfValues(rows);
  for (const [position, taskIndex] of rows.taskIndices.entries()) {
    const { key } = at(store.tasks, taskIndex);
    const [start, end] = spanAt(rows.starts, position);
    for (let row = start; row < end; row += 1) {
      appender.appendVarchar(key);
      appender.appendBigInt(BigInt(at(rows.logRows, row)));
      const impressions = at(rows.impressions, row);
      appender.appendFloat(at(rows.clicks, row) / (ofValues ? impressions : 1));
      appender.appendFloat(impressions);
      for (const ofArm of logits) appender.appendDouble(prediction(at(ofArm, row)));
      appender.endRow();
    }
  }
}
