/**
 * Checks the labels of a store's tasks: that a task has one label, that each label can be learned and
 * whether it differs between rows. Computes the moments by which values are standardised. Reads the
 * tables `task_sizes` and `encodable`.
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { TaskLabel } from '../../shared/tasks/task-label.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { storesLabels, type RowLabel } from './row-labels.js';
import { STORED_SIZE_MAX } from '../../shared/features/encoding-rules.js';
import { labelNeverDiffers } from '../../coordinator/prepare/prepare-messages.js';

/** @throws QianmoError of kind `data` if a task has rows of two segments. */
export async function demandOneLabelPerTask(
  labels: readonly RowLabel[],
  session: DuckSession,
): Promise<void> {
  const [key, first, last] = await session.row(
    `SELECT key, CAST(label AS DOUBLE), CAST(label_max AS DOUBLE) FROM task_sizes
      WHERE label <> label_max ORDER BY key LIMIT 1`,
  );
  if (key === undefined) return;
  const nameOf = (index: unknown): string => labels[Number(index)]?.segment ?? '';
  throw new QianmoError({
    kind: 'data',
    what: 'a task has rows of two segments',
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
    if (loss === 'binary') {
      if (!(await isAnyRow('clicks <> 0')))
        constants.push(labelNeverDiffers({ segment, label: 'label', value: 0 }));
      else if (!(await isAnyRow('clicks < impressions')))
        constants.push(labelNeverDiffers({ segment, label: 'label', value: 1 }));
      continue;
    }
    const [value] = await session.row(`SELECT CAST(clicks AS DOUBLE) ${rows} LIMIT 1`);
    if (value !== undefined && !(await isAnyRow(`clicks <> ${Number(value)}::DOUBLE`)))
      constants.push(labelNeverDiffers({ segment, label: 'the value', value: Number(value) }));
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
  return new QianmoError({
    kind: 'data',
    what: `the segment ${segment ?? ''} has nothing to train on`,
    where: configPath,
    expected: 'rows of it in at least one training task',
    found:
      rowCount === 0
        ? 'none of its accepted rows is in a large enough task'
        : `${rowCount ?? 0} rows in ${taskCount ?? 0} tasks, all held out`,
    cure: 'correct the name of the segment, provide logs with more tasks of it, or leave it out',
  });
}

/** SQL of the stored `clicks` of a row of `encodable e`: values are standardised, then weighted. */
export function storedClicksSql(labels: readonly TaskLabel[] | null): string {
  return byLabel(labels, 'e.clicks', (standardised) => `e.impressions * ${standardised}`);
}

export function storedOracleSql(labels: readonly TaskLabel[] | null): string {
  return byLabel(labels, 'e.oracle', (standardised) => standardised);
}

function byLabel(
  labels: readonly TaskLabel[] | null,
  column: string,
  stored: (standardised: string) => string,
): string {
  const cases = (labels ?? []).flatMap((label, index) => {
    if (label.loss === 'binary') return [];
    const value = stored(`((${column} - (${label.mean}::DOUBLE)) / ${label.deviation}::DOUBLE)`);
    const bound = `${STORED_SIZE_MAX}::DOUBLE`;
    return [`WHEN ${index} THEN least(greatest(${value}, -${bound}), ${bound})`];
  });
  if (cases.length === 0) return column;
  return `CAST(CASE e.label ${cases.join(' ')} ELSE ${column} END AS FLOAT)`;
}
