/** Tasks on the device: the variables and rows they are computed with, and micro-batches of them as tensors. */

import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import {
  DistinctBags,
  rowBatchOf,
  type LocalIds,
  type RowBatch,
  type RowRole,
  unitMasksOf,
  type UnitDropout,
} from './row-batch.js';
import {
  bagExtent,
  memberDensity,
  packExtent,
  type MicroBatch,
} from '../../../shared/tasks/micro-batches.js';
import type { Engine } from '../engine/load-engine.js';

export interface DeviceTasks {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly tasks: readonly TaskRows[];
  readonly dense: { readonly [name: string]: tfjs.Tensor };
  /**
   * `{ rows }`: the row pack `[packExtent, tableRowWidth]`, padded by zeros, or every table whole;
   * empty when the model has no tables.
   */
  readonly pack: { readonly rows?: tfjs.Tensor2D };
  /** Rows of `pack`, by table. */
  readonly localIds: readonly LocalIds[];
}

/** Rows of a micro-batch by role; a role without rows, or not asked for, is absent. */
type RowBatches = { readonly [Role in RowRole]?: BatchTensors };

export type TaskBatches = {
  readonly batches: RowBatches;
  /** Absent when the model has no bags. */
  readonly bags?: BagTensors;
};

/**
 * A row pack, padded by zeros. The caller's `tf.tidy` owns it.
 *
 * @param write writes the rows `[rowCount, tableRowWidth]`.
 * @param memoryFor gives as many floats, which the tensor reads until it is disposed.
 */
export function paddedPack(
  { tf }: Engine,
  { tables, tableRowWidth: width }: ModelSpec,
  { rowCount, write }: { readonly rowCount: number; readonly write: (rows: Float32Array) => void },
  memoryFor = (length: number): Float32Array => new Float32Array(length),
): DeviceTasks['pack'] {
  if (tables.length === 0) return {};
  const extent = packExtent(Math.max(1, rowCount));
  const padded = memoryFor(extent * width);
  write(padded.subarray(0, rowCount * width));
  padded.fill(0, rowCount * width);
  return { rows: tf.tensor2d(padded, [extent, width]) };
}

interface WantedRows {
  readonly roles: readonly RowRole[];
  /** True if the sums over support rows are wanted as well. */
  readonly hasSupportTotals?: boolean;
  /** Units are dropped in the rows that are learned from. */
  readonly unitDropout?: UnitDropout | null;
}

/** The wanted rows of a micro-batch and their bags. The caller's `tf.tidy` owns the tensors. */
export function batchesOf(
  job: DeviceTasks,
  { taskPlaces, taskCount, supportExtent, queryExtent, flatExtent }: MicroBatch,
  { roles, hasSupportTotals = false, unitDropout = null }: WantedRows,
): TaskBatches {
  const byTask = (extent: number): { taskCount: number; rowExtent: number } => ({
    taskCount,
    rowExtent: extent,
  });
  const extents: Record<RowRole, { taskCount: number; rowExtent: number }> = {
    support: byTask(supportExtent),
    query: byTask(queryExtent),
    all: byTask(supportExtent + queryExtent),
    first: byTask(1),
    flat: { taskCount: 1, rowExtent: flatExtent },
  };
  const bags = new DistinctBags();
  const { crowd, categoryFeatures } = job.spec;
  const placed = {
    ...{ bags, packExtent: job.pack.rows?.shape[0] ?? 0 },
    crowdColumn: crowd === undefined ? null : categoryFeatures.indexOf(crowd),
  };
  const batches: { [Name in RowRole]?: BatchTensors } = {};
  let placeCount = 0;
  for (const role of roles) {
    const own = extents[role];
    if (own.rowExtent === 0) continue;
    placeCount += own.taskCount * own.rowExtent;
    const tasks = taskPlaces.map((place) => at(job.tasks, place));
    const batch = rowBatchOf({ tasks, role }, job.localIds, own, placed);
    const hasTotals = hasSupportTotals && role === 'support';
    batches[role] = {
      ...batchTensorsOf(job.engine, batch, hasTotals),
      ...(unitDropout === null || role === 'first'
        ? {}
        : { unitMasks: unitMaskTensors(job, unitDropout, { tasks, role, ...own }) }),
    };
  }
  if (job.spec.bagFeatures.length === 0) return { batches };
  return {
    batches,
    bags: bagTensorsOf(job.engine, bags, bagExtentsOf(job.spec, bags, placeCount)),
  };
}

function unitMaskTensors(
  { engine: { tf }, spec }: DeviceTasks,
  dropout: UnitDropout,
  rows: Parameters<typeof unitMasksOf>[1],
): NonNullable<BatchTensors['unitMasks']> {
  const { units, inputs, keepsFeatures } = dropout;
  const { hiddenWidths } = spec.options;
  const inputWidth = spec.fieldCount * spec.tableRowWidth;
  const layers = [
    ...hiddenWidths.map((width, layer) => ({
      ...{ name: `layer${layer}`, width },
      rate: keepsFeatures && layer === hiddenWidths.length - 1 ? 0 : units,
    })),
    { name: INPUT_MASK, width: inputWidth, rate: inputs },
  ];
  const masks = unitMasksOf(dropout, rows, layers);
  return Object.fromEntries(
    layers.flatMap(({ name, width, rate }, place) =>
      rate === 0
        ? []
        : [[name, tf.tensor2d(at(masks, place), [rows.taskCount * rows.rowExtent, width])]],
    ),
  );
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

export const INPUT_MASK = 'input';

/** The data of the rows that the loss reads, `[taskCount, rowExtent]` or flat `[1, rowExtent]` each. */
export type LossTerms = {
  /** Shares of the task's impressions. */
  readonly impressionShares: tfjs.Tensor2D;
  readonly clickShares: tfjs.Tensor2D;
  /** Present if some tasks of the batch have the squared loss; 0 in the rows of other tasks. */
  readonly squared?: {
    readonly impressionShares: tfjs.Tensor2D;
    /** The part of the loss that does not depend on the output. */
    readonly constants: tfjs.Tensor2D;
  };
};

/** A row batch as captured functions take it. Parts that the model does not have are absent, since no tensor may be empty. */
export type BatchTensors = {
  /**
   * For each category and then each bag feature, `[taskCount * rowExtent * tableCount]`: the index of a
   * row of the pack, or of a bag; bags follow the last row.
   */
  readonly tablePlaces?: tfjs.Tensor1D;
  /** `[taskCount * rowExtent, numberCount]` */
  readonly numbers?: tfjs.Tensor2D;
  /** The crowd of each row, `[taskCount * rowExtent]`. */
  readonly crowds?: tfjs.Tensor1D;
  /** For flat rows, `[1, rowExtent]`: the task of each row, `[rowExtent]`. */
  readonly taskOfPlace?: tfjs.Tensor1D;
  /**
   * Where units are dropped, by hidden layer, `[taskCount * rowExtent, width]`: factors of its units; as
   * `INPUT_MASK`, `[.., fieldCount * tableRowWidth]`, those of the fields that the first one reads.
   */
  readonly unitMasks?: { readonly [layer: string]: tfjs.Tensor2D };
  /** Totals of each task, `[taskCount]`, if they were requested. */
  readonly totals?: {
    readonly impressions: tfjs.Tensor1D;
    readonly clicks: tfjs.Tensor1D;
    /** 1 for tasks of values, 0 for tasks of clicks; absent if all are of clicks. */
    readonly isOfValues?: tfjs.Tensor1D;
  };
} & LossTerms;

/** The distinct bags of all rows of a micro-batch. */
export type BagTensors = {
  /** Rows of the pack, ordered by bag: `[memberExtent]`. */
  readonly members: tfjs.Tensor1D;
  /** The bag of each member, `[memberExtent]`; padding belongs to the last bag, which no row has. */
  readonly bagOfMember: tfjs.Tensor1D;
  /** 1 / the number of members, or 0 for an empty bag: `[bagExtent, 1]`. */
  readonly shares: tfjs.Tensor2D;
};

interface BagExtents {
  /** More than the number of bags. */
  readonly bagExtent: number;
  /** At least the number of members of all bags, and 1. */
  readonly memberExtent: number;
}

function batchTensorsOf({ tf }: Engine, batch: RowBatch, hasTotals = false): BatchTensors {
  const { taskCount, rowExtent, tablePlaces, numberCount } = batch;
  const byTask: [number, number] = [taskCount, rowExtent];
  return {
    ...(tablePlaces.length === 0 ? {} : { tablePlaces: tf.tensor1d(tablePlaces, 'int32') }),
    ...(batch.crowds === null ? {} : { crowds: tf.tensor1d(batch.crowds, 'int32') }),
    ...(numberCount === 0
      ? {}
      : { numbers: tf.tensor2d(batch.numbers, [taskCount * rowExtent, numberCount]) }),
    impressionShares: tf.tensor2d(batch.impressionShares, byTask),
    clickShares: tf.tensor2d(batch.clickShares, byTask),
    ...(batch.taskOfPlace === null ? {} : { taskOfPlace: tf.tensor1d(batch.taskOfPlace, 'int32') }),
    ...(hasTotals
      ? {
          totals: {
            impressions: tf.tensor1d(batch.impressionTotals),
            clicks: tf.tensor1d(batch.clickTotals),
            ...(batch.squared === null ? {} : { isOfValues: tf.tensor1d(batch.squared.taskFlags) }),
          },
        }
      : {}),
    ...(batch.squared === null
      ? {}
      : {
          squared: {
            impressionShares: tf.tensor2d(batch.squared.impressionShares, byTask),
            constants: tf.tensor2d(batch.squared.constants, byTask),
          },
        }),
  };
}

function bagTensorsOf(
  { tf }: Engine,
  bags: DistinctBags,
  { bagExtent, memberExtent }: BagExtents,
): BagTensors {
  const members = new Int32Array(memberExtent);
  members.set(bags.members);
  const bagOfMember = new Int32Array(memberExtent).fill(bagExtent - 1);
  const shares = new Float32Array(bagExtent);
  let next = 0;
  for (let bag = 0; bag < bags.count; bag += 1) {
    const size = bags.sizeOf(bag);
    bagOfMember.fill(bag, next, next + size);
    next += size;
    if (size > 0) shares[bag] = 1 / size;
  }
  return {
    members: tf.tensor1d(members, 'int32'),
    bagOfMember: tf.tensor1d(bagOfMember, 'int32'),
    shares: tf.tensor2d(shares, [bagExtent, 1]),
  };
}

interface PlaceCounts {
  readonly taskCount: number;
  readonly rowExtent: number;
  readonly placeCount: number;
}

export function placeCountsOf({ impressionShares }: BatchTensors): PlaceCounts {
  const [taskCount, rowExtent] = impressionShares.shape;
  return { taskCount, rowExtent, placeCount: taskCount * rowExtent };
}
