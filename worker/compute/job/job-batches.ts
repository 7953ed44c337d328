/** A job on the device and its micro-batches as tensors: what gradients and predictions share. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { RowPackLayout } from '../../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import type { Engine } from '../engine/load-engine.js';
import { DistinctBags } from '../batches/distinct-bags.js';
import type { FrozenTensors } from './frozen-tensors.js';
import type { LocalIds } from '../batches/local-ids.js';
import type { BatchInput } from '../meta-gradients/passes.js';
import {
  bagExtent,
  memberDensity,
  packExtent,
  rowExtent,
  type MicroBatch,
} from '../batches/micro-batches.js';
import {
  bagTensorsOf,
  batchTensorsOf,
  type BagExtents,
  type BatchTensors,
} from '../models/batch-tensors.js';
import { localIdsByTable, rowBatchOf, type RowRole } from '../batches/row-batch.js';

export interface DeviceJob {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly tasks: readonly TaskRows[];
  /** As many of each task; empty when none are read. */
  readonly neighbours: readonly (readonly TaskRows[])[];
  /** Of the job's row pack; null where it has none. */
  readonly packLayout: RowPackLayout | null;
  readonly dense: { readonly [name: string]: tfjs.Tensor };
  /**
   * `{ rows }`: the row pack `[packExtent, tableRowWidth]`, padded by zeros, or every table whole;
   * empty when the model has no tables.
   */
  readonly pack: { readonly rows?: tfjs.Tensor2D };
  /** Rows of `pack`, by table. */
  readonly localIds: readonly LocalIds[];
}

/** What a job was sent; dense and frozen variables together are those of the spec. */
export interface DeviceInputs {
  readonly dense: ReadonlyMap<string, DenseTensor>;
  readonly frozen: FrozenTensors;
  /** Null where the frozen input has the tables. */
  readonly pack: { readonly layout: RowPackLayout; readonly rows: DenseTensor } | null;
}

/** The caller's `tf.tidy` owns the tensors that are not frozen. */
export function deviceJobOf(
  engine: Engine,
  spec: ModelSpec,
  { tasks, neighbours }: Pick<DeviceJob, 'tasks' | 'neighbours'>,
  { dense, frozen, pack }: DeviceInputs,
): DeviceJob {
  const sent = uploaded(engine, dense);
  return {
    ...{ engine, spec, tasks, neighbours },
    // In the order of the spec, whichever way they came.
    dense: Object.fromEntries(
      spec.variables.map(({ name }) => [name, namedIn(frozen.dense.get(name) ?? sent.get(name))]),
    ),
    ...(pack === null
      ? {
          packLayout: null,
          pack: frozen.rows === null ? {} : { rows: frozen.rows },
          localIds: wholeTables(spec),
        }
      : {
          packLayout: pack.layout,
          pack: paddedPack(engine, spec, pack.layout, pack.rows),
          localIds: localIdsByTable(pack.layout),
        }),
  };
}

function uploaded(
  { tf }: Engine,
  dense: ReadonlyMap<string, DenseTensor>,
): Map<string, tfjs.Tensor> {
  return new Map(
    [...dense].map(([name, { shape, values }]) => [name, tf.tensor(values, [...shape], 'float32')]),
  );
}

function namedIn(tensor: tfjs.Tensor | undefined): tfjs.Tensor {
  if (tensor === undefined) throw new Error('a job has all variables of its model');
  return tensor;
}

function paddedPack(
  { tf }: Engine,
  { tables, tableRowWidth: width }: ModelSpec,
  { rowCount }: RowPackLayout,
  { values }: DenseTensor,
): DeviceJob['pack'] {
  if (tables.length === 0) return {};
  const extent = packExtent(Math.max(1, rowCount));
  const padded = new Float32Array(extent * width);
  padded.set(values);
  return { rows: tf.tensor2d(padded, [extent, width]) };
}

/** Where each row lies when the tables follow one another. */
function wholeTables({ tables }: ModelSpec): LocalIds[] {
  let end = 0;
  return tables.map(({ rowCount }) => {
    const start = end;
    end += rowCount;
    return { placeOf: (id) => start + id };
  });
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
