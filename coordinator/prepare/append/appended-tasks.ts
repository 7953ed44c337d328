/**
 * The tasks that appended logs have rows of: those of the store, which keep their index, split and label,
 * new ones that are large enough, and batches of small training tasks whose rows train the trunk. Creates the table `tasks` (task, key, split, and label if tasks differ
 * in it) and the view `encodable` of their rows.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { QianmoError } from '../../../shared/base/errors.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { TASK_SPLITS } from '../../../shared/tasks/task-catalog.js';
import { adgroupsOf, type TaskEntry, type TaskStore } from '../../../shared/tasks/task-store.js';
import type { DuckSession } from '../../logs/duckdb-session.js';
import { hexOfText, literal, textOfHex } from '../../logs/sql.js';
import { rowLabelsOf, storesLabels } from '../row-labels.js';
import { boundaryOf } from './row-division.js';
import { encodingFoldSql } from '../target-encodings.js';
import { demandOneLabelPerTask } from '../task-labels.js';
import { describeKey, hashSplitSql } from '../task-division.js';
import { TRUNK_BATCH_ROWS_MAX, trunkBatchKey, type TrunkRows } from '../trunk-rows.js';

export interface AppendedTask {
  /** Its place in the catalog; those of new tasks follow the ones of the store. */
  readonly taskIndex: number;
  readonly key: string;
  /** The keys of its rows in the logs: its own, or those of the small tasks of a batch. */
  readonly logKeys: readonly string[];
  /** A place in `TASK_SPLITS`. */
  readonly split: number;
  readonly firstSeenTime: number | null;
  readonly labelIndex: number | null;
  readonly isNew: boolean;
}

export interface AppendedTasks {
  readonly tasks: readonly AppendedTask[];
  readonly tooSmallTaskCount: number;
  readonly tooSmallRowCount: number;
  /** The counts of the batches of small tasks among `tasks`; null if there are none. */
  readonly trunk: TrunkRows | null;
}

export async function appendedTasksOf(
  config: RunConfig,
  store: TaskStore,
  folder: string,
  session: DuckSession,
): Promise<AppendedTasks> {
  const labels = rowLabelsOf(config.data);
  const hasLabels = storesLabels(labels);
  await session.run(
    `CREATE TABLE task_sizes AS SELECT key, count(*) AS rows, min(time) AS first_time
      ${hasLabels ? ', min(j.label) AS label, max(j.label) AS label_max' : ''} FROM accepted j GROUP BY key`,
  );
  if (labels.length > 1) await demandOneLabelPerTask(labels, session);
  const found = await session.rows(
    `SELECT ${hexOfText('key')}, CAST(rows AS DOUBLE), first_time, CAST(${hashSplitSql(config)} AS DOUBLE),
      ${hasLabels ? 'CAST(label AS DOUBLE)' : 'NULL::DOUBLE'}, CAST(${encodingFoldSql(config, 'key')} AS DOUBLE)
      FROM task_sizes ORDER BY key`,
  );
  const known = knownTasks(store, new Set(found.map(([hex]) => textOfHex(hex))));
  const small: SmallTask[] = [];
  const tasks: AppendedTask[] = [];
  let [tooSmallTaskCount, tooSmallRowCount, newCount] = [0, 0, 0];
  for (const [hex, rowCount, time, split, label, fold] of found) {
    const key = textOfHex(hex);
    const before = known.get(key);
    const labelIndex = label === null || label === undefined ? null : Number(label);
    if (before !== undefined) {
      demandSameLabel(before.key, before.labelIndex ?? null, labelIndex);
      const { taskIndex, firstSeenTime } = before;
      const splitIndex = TASK_SPLITS.indexOf(before.split);
      tasks.push({
        taskIndex,
        ...{ key: before.key, logKeys: [before.key] },
        split: splitIndex,
        firstSeenTime,
        labelIndex,
        isNew: false,
      });
      continue;
    }
    if (isTooSmall(config, Number(rowCount))) {
      if (config.data.trunkRows === 'small-tasks' && Number(split) === 0) {
        small.push({
          ...{ key, rowCount: Number(rowCount), time: Number(time) },
          ...{ labelIndex, fold: Number(fold) },
        });
        continue;
      }
      tooSmallTaskCount += 1;
      tooSmallRowCount += Number(rowCount);
      continue;
    }
    tasks.push({
      ...{ taskIndex: store.tasks.length + newCount, split: Number(split) },
      ...{ key, logKeys: [key] },
      ...{ firstSeenTime: Number(time), labelIndex, isNew: true },
    });
    newCount += 1;
  }
  const batches = batchesOf(small, {
    taskIndex: store.tasks.length + newCount,
    batch: store.manifest.trunk?.batchCount ?? 0,
  });
  tasks.push(...batches);
  await createTables(tasks, folder, session);
  const trunk = small.length === 0 ? null : trunkRowsOf(small, batches.length);
  return { tasks, tooSmallTaskCount, tooSmallRowCount, trunk };
}

/** The adgroups of these keys: a map of all would take longer than all else here. */
function knownTasks(store: TaskStore, keys: ReadonlySet<string>): ReadonlyMap<string, TaskEntry> {
  const known = new Map<string, TaskEntry>();
  for (const task of adgroupsOf(store)) if (keys.has(task.key)) known.set(task.key, task);
  return known;
}

function trunkRowsOf(small: readonly SmallTask[], batchCount: number): TrunkRows {
  const rowCount = small.reduce((sum, task) => sum + task.rowCount, 0);
  return { batchCount, rowCount, smallTaskCount: small.length, smallTaskRowCount: rowCount };
}

interface SmallTask {
  readonly key: string;
  readonly rowCount: number;
  readonly time: number;
  readonly labelIndex: number | null;
  /** The fold of the task in the target encodings. */
  readonly fold: number;
}

/** Whole small tasks of one label and fold, in the order of their keys, up to the size of a batch. */
function batchesOf(
  small: readonly SmallTask[],
  first: { readonly taskIndex: number; readonly batch: number },
): AppendedTask[] {
  const groups: { readonly members: SmallTask[]; rowCount: number }[] = [];
  const kindOf = ({ labelIndex, fold }: SmallTask): string => `${labelIndex ?? 0}/${fold}`;
  for (const kind of new Set(small.map(kindOf))) {
    let group: (typeof groups)[number] | null = null;
    for (const task of small) {
      if (kindOf(task) !== kind) continue;
      if (group === null || group.rowCount + task.rowCount > TRUNK_BATCH_ROWS_MAX) {
        group = { members: [], rowCount: 0 };
        groups.push(group);
      }
      group.members.push(task);
      group.rowCount += task.rowCount;
    }
  }
  return groups.map(({ members }, place) => ({
    taskIndex: first.taskIndex + place,
    ...{ key: trunkBatchKey(first.batch + place), logKeys: members.map(({ key }) => key) },
    split: TRUNK_SPLIT,
    firstSeenTime: members.reduce((least, { time }) => Math.min(least, time), Infinity),
    ...{ labelIndex: members[0]?.labelIndex ?? null, isNew: true },
  }));
}

const TRUNK_SPLIT = TASK_SPLITS.indexOf('trunk');

function isTooSmall({ data: { rowSplit } }: RunConfig, rowCount: number): boolean {
  const boundary = boundaryOf(rowSplit, rowCount);
  const support = Math.min(boundary, rowSplit.supportRowsMax);
  const query = Math.min(rowCount - boundary, rowSplit.queryRowsMax);
  return support < rowSplit.supportRowsMin || query < rowSplit.queryRowsMin;
}

function demandSameLabel(key: string, before: number | null, found: number | null): void {
  if (before === null || found === null || before === found) return;
  throw new QianmoError({
    kind: 'data',
    what: 'a task has rows of two segments',
    where: `data.segments.column, task ${describeKey(key)}`,
    expected: 'the segment that the task has in the store',
    cure: 'add the column of the segments to data.task and prepare all logs again',
  });
}

async function createTables(
  tasks: readonly AppendedTask[],
  folder: string,
  session: DuckSession,
): Promise<void> {
  const path = join(folder, 'tasks.csv');
  // Dictionaries grow by the rows of split 0, to which batches belong here.
  const lines = tasks.flatMap(({ taskIndex, split, logKeys }) =>
    logKeys.map(
      (key) =>
        `${taskIndex},${split === TRUNK_SPLIT ? 0 : split},${Buffer.from(key).toString('hex')}\n`,
    ),
  );
  await writeFile(path, lines.join('')).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing a temporary file', path);
  });
  await session.run(
    `CREATE TABLE tasks AS SELECT task, split, decode(unhex(hex)) AS key FROM ${
      tasks.length > 0
        ? `read_csv(${literal(path)}, header = false, columns = {'task': 'INTEGER', 'split': 'INTEGER', 'hex': 'VARCHAR'})`
        : `(SELECT 0::INTEGER AS task, 0::INTEGER AS split, '' AS hex WHERE false)`
    }`,
  );
  await session.run(
    `CREATE VIEW encodable AS SELECT t.task, t.split, j.* EXCLUDE (key, code)
      FROM accepted j JOIN tasks t ON j.key = t.key`,
  );
}
