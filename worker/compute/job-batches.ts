/** A job on the device and its micro-batches as tensors: what gradients and predictions share. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';
import type { Engine } from './engine/load-engine.js';
import { DistinctBags } from './distinct-bags.js';
import type { LocalIds } from './local-ids.js';
import type { BatchInput } from './meta-gradients/passes.js';
import {
  bagExtent,
  memberDensity,
  packExtent,
  rowExtent,
  type MicroBatch,
} from './micro-batches.js';
import {
  bagTensorsOf,
  batchTensorsOf,
  type BagExtents,
  type BatchTensors,
} from './models/batch-tensors.js';
import { localIdsByTable, rowBatchOf, type RowRole } from './row-batch.js';

export interface DeviceJob {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly tasks: readonly TaskRows[];
  /** As many of each task; empty when none are read. */
  readonly neighbours: readonly (readonly TaskRows[])[];
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
  { tasks, neighbours }: Pick<DeviceJob, 'tasks' | 'neighbours'>,
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
    neighbours,
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

/**
 * The rows of the roles that have any, by role, and their bags. The caller's `tf.tidy` owns the tensors.
 *
 * @param tasksOf the tasks of the job as a role has them.
 */
export function batchesOf(
  job: DeviceJob,
  { taskPlaces, taskCount, supportExtent, queryExtent, flatExtent }: MicroBatch,
  roles: readonly RowRole[],
  hasSupportTotals = false,
  tasksOf: (role: RowRole) => readonly TaskRows[] = () => job.tasks,
): Pick<BatchInput, 'batches' | 'bags'> {
  const beside = neighbourExtentsOf(job);
  const byTask = (extent: number): { taskCount: number; rowExtent: number } => ({
    taskCount,
    rowExtent: extent,
  });
  const extents: Record<RowRole, { taskCount: number; rowExtent: number }> = {
    support: byTask(supportExtent),
    query: byTask(queryExtent),
    all: byTask(supportExtent + queryExtent),
    first: byTask(1),
    neighbours: { taskCount: taskCount * beside.count, rowExtent: beside.rowExtent },
    flat: { taskCount: 1, rowExtent: flatExtent },
  };
  const bags = new DistinctBags();
  const placed = { bags, packExtent: job.pack.rows?.shape[0] ?? 0 };
  const batches: { [Name in RowRole]?: BatchTensors } = {};
  let placeCount = 0;
  for (const role of roles) {
    const own = extents[role];
    if (own.rowExtent === 0) continue;
    placeCount += own.taskCount * own.rowExtent;
    const tasks =
      role === 'neighbours'
        ? taskPlaces.flatMap((place) => job.neighbours[place] ?? [])
        : tasksAt(tasksOf(role), taskPlaces);
    const batch = rowBatchOf(tasks, role, job.localIds, own, placed);
    const hasTotals = hasSupportTotals && (role === 'support' || role === 'neighbours');
    batches[role] = batchTensorsOf(job.engine, batch, hasTotals);
  }
  if (job.spec.bagFeatures.length === 0) return { batches };
  return {
    batches,
    bags: bagTensorsOf(job.engine, bags, bagExtentsOf(job.spec, bags, placeCount)),
  };
}

/** Neighbours of each task, places without one included, and the padded rows of each: none, or all alike. */
export function neighbourExtentsOf({ neighbours }: Pick<DeviceJob, 'neighbours'>): {
  readonly count: number;
  readonly rowExtent: number;
} {
  const rowCounts = neighbours.flat().map(({ rowCount }) => rowCount);
  return {
    count: neighbours[0]?.length ?? 0,
    rowExtent: rowExtent(rowCounts.reduce((most, count) => Math.max(most, count), 0)),
  };
}

/** Padded rows that a job reads for each of its tasks beside the task's own. */
export function rowsBesideOf(job: DeviceJob): number {
  const { count, rowExtent: ofEach } = neighbourExtentsOf(job);
  return count * ofEach;
}

function bagExtentsOf(
  { bagFeatures }: ModelSpec,
  bags: DistinctBags,
  placeCount: number,
): BagExtents {
  const extent = bagExtent(bags.count, placeCount * bagFeatures.length);
  const lengthMax = Math.max(...bagFeatures.map((bag) => bag.lengthMax));
  const density = memberDensity(bags.members.length, extent, lengthMax);
  return { bagExtent: extent, memberExtent: Math.max(1, Math.ceil(extent * density)) };
}

function tasksAt(tasks: readonly TaskRows[], taskPlaces: readonly number[]): TaskRows[] {
  return taskPlaces.map((place) => {
    const task = tasks[place];
    if (task === undefined) throw new Error(`the job has no task ${place}`);
    return task;
  });
}
