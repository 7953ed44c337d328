/**
 * A gradient job: one call of a captured function per micro-batch. Micro-batches are summed in their
 * order, in float64, and rounded once.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { gradientCutOf } from '../../../shared/methods/inner-loop/gradient-cut.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import {
  learnedRowsOf,
  learnedVariables,
  type LearnedRows,
} from '../../../shared/models/learned-parameters.js';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import type { MicroBatchRange } from '../../../shared/tasks/rows/micro-batch-range.js';
import type { MicroBatch } from '../../../shared/tasks/rows/micro-batches.js';
import type { GradientFunction, GradientOutput } from './captured-gradient.js';
import type { QueryLossFunction } from './captured-query-loss.js';
import type { Computations } from './computations.js';
import type { DeviceJob } from './device-job.js';
import type { JobGradient } from './gradient-part.js';
import { GradientSums } from './gradient-sums.js';
import { batchesOf, rowsBesideOf } from '../models/device-tasks.js';
import { ROWS } from './job-inputs.js';
import { readsSupportTotals, rolesOf } from '../meta-gradients/rows-read.js';

interface MicroBatchBounds {
  /** The padded rows of a micro-batch, at most. */
  readonly rowsMax: number;
  /** What the job asks for, which is more where the device has too little memory for it. */
  readonly rowsMaxOfJob: number;
}

const NO_ROWS: LearnedRows = { rowCount: 0, spans: [] };

export function gradientOf(
  computations: Computations,
  job: DeviceJob,
  work: GradientWork,
  bounds: MicroBatchBounds,
): JobGradient {
  const { spec, tasks, packLayout } = job;
  const { tf } = job.engine;
  const functions = functionsOf(computations, job, work);
  const learned = packLayout === null ? NO_ROWS : learnedRowsOf(spec, packLayout);
  const sums = new GradientSums([
    ...learnedVariables(spec),
    { name: ROWS, shape: [learned.rowCount, spec.tableRowWidth] },
  ]);
  const microBatches = cutOf(job, work, bounds);
  const count = microBatches.length;
  const losses = {
    queryLosses: new Float64Array(tasks.length),
    supportLosses: new Float64Array(tasks.length),
    queryLossesBefore: functions.queryLoss === null ? null : new Float64Array(tasks.length),
  };
  for (const [index, microBatch] of microBatches.entries()) {
    computations.onProgress({ phase: 'computing', microBatch: { number: index + 1, count } });
    tf.tidy(() => {
      const output = runMicroBatch(functions, job, work, microBatch);
      if (output === null) return;
      for (const [name, gradient] of Object.entries(output.gradients))
        sums.add(name, gradient.dataSync<'float32'>());
      if (output.rowGradient !== undefined) {
        const values = output.rowGradient.dataSync<'float32'>();
        sums.add(ROWS, learnedRowValues(values, learned, spec.tableRowWidth));
      }
      placeLosses(microBatch, output.queryLosses, losses.queryLosses);
      placeLosses(microBatch, output.supportLosses, losses.supportLosses);
      if (losses.queryLossesBefore !== null)
        placeLosses(microBatch, output.queryLossesBefore, losses.queryLossesBefore);
    });
  }
  return { sums, losses, taskPlaces: microBatches.flatMap(({ taskPlaces }) => taskPlaces) };
}

/**
 * The micro-batches that are computed: all, or those of a part. Where the device has too little memory for the job's
 * own, each is cut further.
 *
 * @throws QianmoError `data` if the coordinator has cut the job into others.
 */
function cutOf(job: DeviceJob, work: GradientWork, bounds: MicroBatchBounds): MicroBatch[] {
  const plan = methodPlanOf(work.method);
  const sizes = job.tasks.map(({ rowCount, supportRowCount }) => ({
    supportRowCount,
    queryRowCount: rowCount - supportRowCount,
  }));
  const rowsBeside = adapts(plan) ? rowsBesideOf(job) : 0;
  const { rowsMax, rowsMaxOfJob } = bounds;
  const range = work.microBatches;
  if (range === undefined) return gradientCutOf(plan, sizes, { rowsMax, rowsBeside });
  const whole = gradientCutOf(plan, sizes, { rowsMax: rowsMaxOfJob, rowsBeside });
  const chosen = whole.slice(range.first, range.end);
  const taskCount = chosen.reduce((sum, { taskPlaces }) => sum + taskPlaces.length, 0);
  if (whole.length !== range.count || taskCount !== range.taskCount)
    throw otherCut(whole.length, taskCount, range);
  if (rowsMax >= rowsMaxOfJob) return chosen;
  return chosen.flatMap(({ taskPlaces }) => {
    const ofPart = taskPlaces.map((place) => at(sizes, place));
    return gradientCutOf(plan, ofPart, { rowsMax, rowsBeside }).map((smaller) => ({
      ...smaller,
      taskPlaces: smaller.taskPlaces.map((index) => at(taskPlaces, index)),
    }));
  });
}

function otherCut(count: number, taskCount: number, range: MicroBatchRange): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a part of a job does not fit the job',
    expected: `${range.count} micro-batches, ${range.taskCount} tasks in those of the part`,
    found: `${count} micro-batches, ${taskCount} tasks`,
    cure: 'coordinator and worker must run the same version on the same store',
  });
}

interface GradientFunctions {
  readonly gradient: GradientFunction;
  /** Null where the work does not ask for the query loss before adaptation. */
  readonly queryLoss: QueryLossFunction | null;
}

function functionsOf(
  computations: Computations,
  { spec }: DeviceJob,
  { method, queryLossBefore }: GradientWork,
): GradientFunctions {
  return {
    gradient: computations.gradientOf(spec, method),
    queryLoss: queryLossBefore === true ? computations.queryLossOf(spec, method) : null,
  };
}

type MicroBatchOutput = GradientOutput & { readonly queryLossesBefore?: tfjs.Tensor1D };

/** Null when there are no rows. */
function runMicroBatch(
  { gradient, queryLoss }: GradientFunctions,
  job: DeviceJob,
  { method, taskWeights, coldTaskWeights, stepWeights }: GradientWork,
  microBatch: MicroBatch,
): MicroBatchOutput | null {
  if (microBatch.flatExtent === 0) return null;
  const plan = methodPlanOf(method);
  const weightsAt = (weights: readonly number[]): tfjs.Tensor1D => {
    const values = new Float32Array(microBatch.taskCount);
    for (const [index, place] of microBatch.taskPlaces.entries())
      values[index] = at(weights, place);
    return job.engine.tf.tensor1d(values);
  };
  const input = {
    dense: job.dense,
    ...job.pack,
    ...batchesOf(job, microBatch, {
      roles: rolesOf(plan),
      hasSupportTotals: readsSupportTotals(plan.innerLoop),
      unitDropout: job.unitDropout ?? null,
    }),
  };
  const before = queryLoss?.run(input) ?? null;
  const output = gradient.run({
    ...input,
    weights: {
      warm: weightsAt(taskWeights),
      ...(coldTaskWeights === undefined || plan.cold === null
        ? {}
        : { cold: weightsAt(coldTaskWeights) }),
      ...(stepWeights === undefined ? {} : { steps: job.engine.tf.tensor1d(stepWeights) }),
    },
  });
  return before === null ? output : { ...output, queryLossesBefore: before };
}

/** The rows of learned tables, end to end. Other rows of the pack and its padding are left out. */
function learnedRowValues(
  values: Float32Array,
  { rowCount, spans }: LearnedRows,
  width: number,
): Float32Array {
  if (spans.every(({ packStart, start }) => packStart === start))
    return values.subarray(0, rowCount * width);
  const learned = new Float32Array(rowCount * width);
  for (const { packStart, start, rowCount: ofTable } of spans)
    learned.set(values.subarray(packStart * width, (packStart + ofTable) * width), start * width);
  return learned;
}

function placeLosses(
  { taskPlaces }: MicroBatch,
  losses: tfjs.Tensor1D | undefined,
  target: Float64Array,
): void {
  if (losses === undefined) return;
  const values = losses.dataSync<'float32'>();
  for (const [index, place] of taskPlaces.entries()) target[place] = at(values, index);
}
