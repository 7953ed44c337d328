/** A job on the device and its micro-batches as tensors: what gradients and predictions share. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';
import type { Engine } from './engine/load-engine.js';
import type { LocalIds } from './local-ids.js';
import { memberDensity, packExtent, type MicroBatch } from './micro-batches.js';
import { batchTensorsOf, type BatchTensors } from './models/batch-tensors.js';
import { localIdsByTable, memberCountOf, rowBatchOf, type RowRole } from './row-batch.js';

export interface DeviceJob {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly tasks: readonly TaskRows[];
  readonly packRowCount: number;
  readonly dense: { readonly [name: string]: tfjs.Tensor };
  /** `{ rows }` `[packExtent, tableRowWidth]`, padded by zeros; empty when the model has no tables. */
  readonly pack: { readonly rows?: tfjs.Tensor2D };
  readonly localIds: readonly LocalIds[];
}

/** The caller's `tf.tidy` owns the tensors. */
export function deviceJobOf(
  engine: Engine,
  spec: ModelSpec,
  tasks: readonly TaskRows[],
  layout: RowPackLayout,
  dense: ReadonlyMap<string, DenseTensor>,
  rows: DenseTensor,
): DeviceJob {
  const { tf } = engine;
  const width = spec.tableRowWidth;
  const extent = packExtent(Math.max(1, layout.rowCount));
  const padded = new Float32Array(spec.tables.length === 0 ? 0 : extent * width);
  padded.set(rows.values);
  return {
    engine,
    spec,
    tasks,
    packRowCount: layout.rowCount,
    dense: Object.fromEntries(
      [...dense].map(([name, { shape, values }]) => [
        name,
        tf.tensor(values, [...shape], 'float32'),
      ]),
    ),
    pack: padded.length === 0 ? {} : { rows: tf.tensor2d(padded, [extent, width]) },
    localIds: localIdsByTable(layout),
  };
}

/** The rows of the roles that have any, by role. The caller's `tf.tidy` owns the tensors. */
export function batchesOf(
  job: DeviceJob,
  { taskPlaces, taskCount, supportExtent, queryExtent, flatExtent }: MicroBatch,
  roles: readonly RowRole[],
  hasSupportTotals = false,
): { readonly [Name in RowRole]?: BatchTensors } {
  const tasks = tasksAt(job, taskPlaces);
  const byTask = (rowExtent: number): { taskCount: number; rowExtent: number } => ({
    taskCount,
    rowExtent,
  });
  const extents: Record<RowRole, { taskCount: number; rowExtent: number }> = {
    support: byTask(supportExtent),
    query: byTask(queryExtent),
    all: byTask(supportExtent + queryExtent),
    first: byTask(1),
    flat: { taskCount: 1, rowExtent: flatExtent },
  };
  const filled = roles.filter((role) => extents[role].rowExtent > 0);
  // One density for all roles: one number that shapes depend on, not one for each role.
  const densities = filled.map((role) =>
    memberDensity(
      tasks.reduce((sum, task) => sum + memberCountOf(task, role), 0),
      extents[role].taskCount * extents[role].rowExtent,
    ),
  );
  const density = Math.max(0, ...densities);
  const batches: { [Name in RowRole]?: BatchTensors } = {};
  for (const role of filled) {
    const own = extents[role];
    const memberExtent = own.taskCount * own.rowExtent * density;
    const batch = rowBatchOf(tasks, role, job.localIds, { ...own, memberExtent });
    batches[role] = batchTensorsOf(job.engine, batch, hasSupportTotals && role === 'support');
  }
  return batches;
}

export function tasksAt(job: DeviceJob, taskPlaces: readonly number[]): TaskRows[] {
  return taskPlaces.map((place) => {
    const task = job.tasks[place];
    if (task === undefined) throw new Error(`the job has no task ${place}`);
    return task;
  });
}
