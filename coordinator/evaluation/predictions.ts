/** Per-row test predictions of every arm as a Parquet file, so that others can check the metrics. */

import { at, spanAt } from '../../shared/base/arrays.js';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DuckDBInstance, type DuckDBAppender } from '@duckdb/node-api';
import { QianmoError } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { FlatRows } from '../scoring/held-out-rows.js';
import { isOfValues, predictionOf } from '../scoring/metrics.js';
import type { ArmName } from '../../shared/config/arms.js';

/**
 * Columns: `task` (the task's key; several columns are joined with U+001F), `row` (number of the
 * row in the logs, from 0), `clicks`, `impressions`, and a click probability per arm, its name with
 * `_` for `-`. Of values, `value` and `weight` take the place of the counts, and of an arm the value
 * that it predicts. Only query rows of test tasks: these are the rows the metrics are of.
 *
 * @throws QianmoError of kind `environment` when the file cannot be written; then there is none.
 */
export async function writePredictions(
  path: string,
  store: TaskStore,
  rows: FlatRows,
  logits: ReadonlyMap<ArmName, Float32Array>,
): Promise<void> {
  const unfinished = `${path}.unfinished`;
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    const arms = [...logits.keys()].map((arm) => `"${columnOf(arm)}" DOUBLE`).join(', ');
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
    // Where the folder is none, there is nothing to remove.
    await rm(unfinished, { force: true }).catch(() => undefined);
    throw new QianmoError({
      kind: 'environment',
      what: 'the predictions cannot be written',
      where: path,
      cure: 'check that the folder exists, may be written to and has space left',
      cause,
    });
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/**
 * For the beginning of an evaluation, which may take hours before it has predictions to write.
 *
 * @throws QianmoError of kind `usage` when the path cannot be that of the predictions.
 */
export async function demandPredictionsPath(path: string): Promise<void> {
  const refused = (expected: string, found: string): QianmoError =>
    new QianmoError({
      kind: 'usage',
      what: 'the predictions cannot be written to this path',
      where: path,
      expected,
      found,
      cure: 'write for example --predictions runs/predictions.parquet',
    });
  if (!path.endsWith('.parquet')) throw refused('a file that ends in .parquet', path);
  if ((await stat(path).catch(() => null))?.isDirectory() === true)
    throw refused('a file', 'a folder');
  try {
    await mkdir(dirname(path), { recursive: true });
  } catch (cause) {
    throw systemFailure(cause, 'making the folder of the predictions', path);
  }
}

function columnOf(arm: ArmName): string {
  return arm.replaceAll('-', '_');
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
