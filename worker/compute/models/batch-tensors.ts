/** A row batch on the device, as the structure of tensors that captured functions take. */

import type * as tfjs from '@tensorflow/tfjs';
import type { DistinctBags } from '../batches/distinct-bags.js';
import type { Engine } from '../engine/load-engine.js';
import type { RowBatch } from '../batches/row-batch.js';
import type { LossTerms } from './lean-operations.js';

export const INPUT_MASK = 'input';

/** Parts that the model does not have are absent, since no tensor may be empty. */
export type BatchTensors = {
  /**
   * For each category and then each bag feature, `[taskCount * rowExtent * tableCount]`: the index of a
   * row of the pack, or of a bag; bags follow the last row.
   */
  readonly tablePlaces?: tfjs.Tensor1D;
  /** `[taskCount * rowExtent, numberCount]` */
  readonly numbers?: tfjs.Tensor2D;
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

export interface BagExtents {
  /** More than the number of bags. */
  readonly bagExtent: number;
  /** At least the number of members of all bags, and 1. */
  readonly memberExtent: number;
}

export function batchTensorsOf({ tf }: Engine, batch: RowBatch, hasTotals = false): BatchTensors {
  const { taskCount, rowExtent, tablePlaces, numberCount } = batch;
  const byTask: [number, number] = [taskCount, rowExtent];
  return {
    ...(tablePlaces.length === 0 ? {} : { tablePlaces: tf.tensor1d(tablePlaces, 'int32') }),
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

export function bagTensorsOf(
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

export interface PlaceCounts {
  readonly taskCount: number;
  readonly rowExtent: number;
  readonly placeCount: number;
}

export function placeCountsOf({ impressionShares }: BatchTensors): PlaceCounts {
  const [taskCount, rowExtent] = impressionShares.shape;
  return { taskCount, rowExtent, placeCount: taskCount * rowExtent };
}
