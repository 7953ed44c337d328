/** A micro-batch of tasks that adapt: what is cut alike for every kind of job, and what steps read. */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import { microBatchesOf, type MicroBatch } from '../../../shared/tasks/micro-batches.js';
import type { RowRole } from '../models/row-batch.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import type { BatchInput } from '../meta-gradients/passes.js';
import { rolesBesideOf } from '../meta-gradients/meta-gradient.js';
import { batchesOf, type BatchTensors, type DeviceTasks } from '../models/device-tasks.js';
import type { TrunkPass } from '../models/staged-pass.js';
import type { ScoringFunctions } from '../scoring/captured-scoring.js';
import type { AdaptationFunctions } from './captured-adaptation.js';

/** Functions and settings that all micro-batches of a job share. */
export interface Adapting {
  readonly job: DeviceTasks;
  readonly loop: InnerLoop;
  readonly functions: AdaptationFunctions;
  readonly scoring: ScoringFunctions;
}

/** Support rows as an inner step reads them. */
export interface StepSupport {
  readonly input: BatchInput;
  readonly batch: BatchTensors;
  readonly trunk: TrunkPass;
}

export interface AdaptingBatch extends Adapting {
  readonly microBatch: MicroBatch;
  /** All rows of the micro-batch. */
  readonly input: BatchInput;
  readonly initial: LoopState;
  /** Null when no task has support rows. */
  readonly support: StepSupport | null;
}

/**
 * Layout rule of adaptation: the bits of a task's blocks depend on the micro-batch it adapts in, since
 * the extents decide how a step is computed, and TensorFlow orders sums by the names of a graph's
 * nodes, which follow from its inputs. So every kind of job cuts its tasks by this function and feeds
 * the same roles, query rows included, whether anything reads them or not.
 *
 * @param rows whether support rows are read at all, and whether there are query rows.
 */
export function adaptingMicroBatches(
  job: DeviceTasks,
  rows: { readonly isAdapting: boolean; readonly hasQuery: boolean },
  microBatchRowsMax: number,
): MicroBatch[] {
  const sizes = job.tasks.map(({ rowCount, supportRowCount }) => ({
    supportRowCount: rows.isAdapting ? supportRowCount : 0,
    queryRowCount: rows.hasQuery ? rowCount - supportRowCount : 0,
  }));
  return microBatchesOf(sizes, microBatchRowsMax);
}

/** The caller's `tf.tidy` owns all tensors. */
export function adaptingBatchOf(adapting: Adapting, microBatch: MicroBatch): AdaptingBatch {
  const { job, loop, functions } = adapting;
  const input = inputOf(adapting, microBatch, ['support', 'query', ...rolesBesideOf(loop)]);
  const tasks = job.engine.tf.zeros<tfjs.Rank.R1>([microBatch.taskCount]);
  return {
    ...adapting,
    ...{ microBatch, input },
    initial: functions.start.run({ ...input, tasks }),
    support: supportOf(adapting, input),
  };
}

function inputOf(
  { job, loop }: Adapting,
  microBatch: MicroBatch,
  roles: readonly RowRole[],
): BatchInput {
  const wanted = { roles, hasSupportTotals: loop.reads.supportTotals === true };
  return { dense: job.dense, ...job.pack, ...batchesOf(job, microBatch, wanted) };
}

function supportOf({ scoring }: Adapting, input: BatchInput): StepSupport | null {
  const { batches, ...shared } = input;
  const batch = batches.support;
  return batch === undefined
    ? null
    : { input, batch, trunk: scoring.trunk.run({ ...shared, batch }) };
}
