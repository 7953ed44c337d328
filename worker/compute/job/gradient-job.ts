/**
 * A gradient job: one call of a captured function per micro-batch. Micro-batches are summed in their
 * order, in float64, and rounded once.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import {
  learnedRowsOf,
  learnedVariables,
  type LearnedRows,
} from '../../../shared/models/learned-parameters.js';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import type { DenseTensor, NamedTensors } from '../../../shared/tensors/named-tensors.js';
import type { GradientFunction, GradientOutput } from './captured-gradient.js';
import type { QueryLossFunction } from './captured-query-loss.js';
import type { Computations } from './computations.js';
import type { DeviceJob } from './device-job.js';
import { batchesOf, rowsBesideOf } from '../models/device-tasks.js';
import { ROWS } from './job-inputs.js';
import {
  readsSupportTotals,
  rolesOf,
  rowMultiplesOf,
  sizeWithPairs,
} from '../meta-gradients/rows-read.js';
import { flatMicroBatchesOf, microBatchesOf, type MicroBatch } from '../batches/micro-batches.js';

export interface JobGradient {
  /** Every learned variable, and `rows` `[learnedRowCount, tableRowWidth]`. */
  readonly tensors: NamedTensors;
  /** Unweighted losses by task of the job; 0 for a task without such rows. */
  readonly queryLosses: Float64Array;
  readonly supportLosses: Float64Array;
  /** Query losses before adaptation; null where the work does not ask for them. */
  readonly queryLossesBefore: Float64Array | null;
}

const NO_ROWS: LearnedRows = { rowCount: 0, spans: [] };

export function gradientOf(
  computations: Computations,
  job: DeviceJob,
  work: GradientWork,
  microBatchRowsMax: number,
): JobGradient {
  const { spec, tasks, packLayout } = job;
  const { tf } = job.engine;
  const functions = functionsOf(computations, job, work);
  const shapes = new Map<string, readonly number[]>(
    learnedVariables(spec).map(({ name, shape }) => [name, shape]),
  );
  const learned = packLayout === null ? NO_ROWS : learnedRowsOf(spec, packLayout);
  shapes.set(ROWS, [learned.rowCount, spec.tableRowWidth]);
  const microBatches = cutOf(job, work.method, microBatchRowsMax);
  const count = microBatches.length;
  const sums = new Map([...shapes].map(([name, shape]) => [name, new GradientSum(sizeOf(shape))]));
  const queryLosses = new Float64Array(tasks.length);
  const supportLosses = new Float64Array(tasks.length);
  const queryLossesBefore = functions.queryLoss === null ? null : new Float64Array(tasks.length);
  for (const [index, microBatch] of microBatches.entries()) {
    computations.onProgress({ phase: 'computing', microBatch: { number: index + 1, count } });
    tf.tidy(() => {
      const output = runMicroBatch(functions, job, work, microBatch);
      if (output === null) return;
      for (const [name, gradient] of Object.entries(output.gradients))
        sums.get(name)?.add(gradient.dataSync<'float32'>());
      if (output.rowGradient !== undefined) {
        const values = output.rowGradient.dataSync<'float32'>();
        sums.get(ROWS)?.add(learnedRowValues(values, learned, spec.tableRowWidth));
      }
      placeLosses(microBatch, output.queryLosses, queryLosses);
      placeLosses(microBatch, output.supportLosses, supportLosses);
      if (queryLossesBefore !== null)
        placeLosses(microBatch, output.queryLossesBefore, queryLossesBefore);
    });
  }
  const shapeOf = (name: string): readonly number[] => {
    const shape = shapes.get(name);
    if (shape === undefined) throw new Error(`no shape of ${name}`);
    return shape;
  };
  const tensors = new Map(
    [...sums].map(([name, sum]): [string, DenseTensor] => [
      name,
      { shape: shapeOf(name), values: sum.rounded() },
    ]),
  );
  return { tensors, queryLosses, supportLosses, queryLossesBefore };
}

/** A method whose tasks do not adapt needs no task axis. */
function cutOf(job: DeviceJob, method: GradientWork['method'], rowsMax: number): MicroBatch[] {
  const sizes = job.tasks.map(({ rowCount, supportRowCount }) => ({
    supportRowCount,
    queryRowCount: rowCount - supportRowCount,
  }));
  const plan = methodPlanOf(method);
  if (!adapts(plan)) return flatMicroBatchesOf(sizes, rowsMax);
  return microBatchesOf(
    sizes.map((size) => sizeWithPairs(plan, size)),
    rowsMax,
    rowMultiplesOf(plan),
    rowsBesideOf(job),
  );
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

/** A sum in float64 over micro-batches. The values of a single one are kept as they are. */
class GradientSum {
  readonly #length: number;
  #only: Float32Array | null = null;
  #sum: Float64Array | null = null;

  constructor(length: number) {
    this.#length = length;
  }

  /** @param values nobody writes to them any more. */
  add(values: Float32Array): void {
    if (values.length !== this.#length)
      throw new Error(`a gradient has ${values.length} values, not ${this.#length}`);
    if (this.#sum === null && this.#only === null) {
      this.#only = values;
      return;
    }
    const sum = (this.#sum ??= Float64Array.from(this.#only ?? []));
    for (let index = 0; index < sum.length; index += 1)
      sum[index] = (sum[index] ?? NaN) + (values[index] ?? NaN);
  }

  /** Zeros where nothing was added. */
  rounded(): Float32Array {
    if (this.#sum !== null) return new Float32Array(this.#sum);
    return this.#only ?? new Float32Array(this.#length);
  }
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

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}
