/**
 * Joins the parts of divided jobs to the gradients that the whole jobs would have returned, bit for bit: micro-batches
 * are added in float64 in their order, and rounded once.
 */

import { at, demandSameLength } from '../../../shared/base/arrays.js';
import {
  placeTaskLosses,
  summedLossesOf,
  type TaskLosses,
} from '../../../shared/queue/blobs/gradient-losses.js';
import type { JobResult } from '../../../shared/queue/protocol.js';
import type { DenseTensor, NamedTensors } from '../../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../../shared/tensors/native-rows.js';
import type { TensorValues } from '../../../shared/tensors/tensor-codec.js';
import type { Admitted } from '../../dispatch/dispatcher.js';
import { partsDiverged } from '../../dispatch/job-delivery.js';
import type { StepPlan } from '../../plan/step-plan.js';
import { gradientLayout, normOf, sizedLossesOf, type JobGradient } from './job-gradient.js';
import { FLOAT32_MAX, type PartGradient, type PartShapes } from './part-gradient.js';

interface AdmittedPart {
  readonly result: JobResult;
  readonly gradient: PartGradient;
}

/**
 * Hands whole jobs on as they arrive, and a divided one when its last part has arrived.
 *
 * @throws DivergenceError of a given-up job if its parts add up to no finite gradient.
 */
export async function* joinedParts(
  arrivals: AsyncIterable<Admitted<JobGradient | PartGradient>>,
  plan: Pick<StepPlan, 'jobs'>,
  shapes: PartShapes,
): AsyncGenerator<Admitted<JobGradient>> {
  const waiting = new Map<number, AdmittedPart[]>();
  for await (const { result, value } of arrivals) {
    if (!('part' in value)) {
      yield { result, value };
      continue;
    }
    const { jobIndex } = value.part;
    const parts = [...(waiting.get(jobIndex) ?? []), { result, gradient: value }];
    waiting.set(jobIndex, parts);
    const arrivedCount = parts.reduce((sum, { gradient }) => sum + lengthOf(gradient), 0);
    if (arrivedCount < (value.part.microBatches?.count ?? 0)) continue;
    waiting.delete(jobIndex);
    parts.sort((a, b) => firstOf(a.gradient) - firstOf(b.gradient));
    yield { result: joinedResult(parts), value: joined(jobIndex, parts, plan, shapes) };
  }
}

function firstOf({ part: { microBatches } }: PartGradient): number {
  return microBatches?.first ?? 0;
}

function lengthOf({ part: { microBatches } }: PartGradient): number {
  return microBatches === null ? 0 : microBatches.end - microBatches.first;
}

/** The result of the last part, with the smallest micro-batches of any: the outer loop warns of these. */
function joinedResult(parts: readonly AdmittedPart[]): JobResult {
  const results = parts.map(({ result }) => result);
  const microBatchRowsMax = Math.min(...results.map((result) => result.microBatchRowsMax));
  return { ...at(results, results.length - 1), microBatchRowsMax };
}

function joined(
  jobIndex: number,
  parts: readonly AdmittedPart[],
  { jobs }: Pick<StepPlan, 'jobs'>,
  { spec, layouts, sizes, asksBefore }: PartShapes,
): JobGradient {
  const dense = new Map<string, DenseTensor>();
  for (const [name, { shape }] of gradientLayout(spec, at(layouts, jobIndex))) {
    const addends = parts.map(
      ({ gradient }) => gradient.tensors.get(name)?.values ?? missing(name),
    );
    dense.set(name, { shape, values: roundedSum(addends) });
  }
  requireFinite(dense, parts);
  const { taskIndices, taskWeights, sizes: ownSizes } = at(jobs, jobIndex);
  const losses = lossesOf(parts, taskIndices.length, asksBefore);
  for (const { gradient } of parts) gradient.release?.();
  const work = { taskWeights: [...taskWeights], sizeBuckets: [...ownSizes.bucketByTask] };
  const { weightedQueryLossBefore = null, lossesBySize, ...means } = summedLossesOf(work, losses);
  const bySize = sizedLossesOf({ lossesBySize }, sizes?.[jobIndex]);
  const rows = dense.get('rows')?.values ?? missing('rows');
  dense.delete('rows');
  return {
    ...{ jobIndex, dense, rows, weightedQueryLossBefore, ...means },
    bySize: bySize === 'unlike' ? null : bySize,
  };
}

/** @throws DivergenceError of a given-up job if a sum of parts is beyond float32. */
function requireFinite(sums: NamedTensors, parts: readonly AdmittedPart[]): void {
  const bound = parts.reduce((sum, { gradient }) => sum + gradient.norm, 0);
  if (bound <= FLOAT32_MAX || Number.isFinite(normOf(sums))) return;
  const { outerStep, jobIndex } = at(parts, 0).result;
  throw partsDiverged(`outer step ${outerStep}, job ${jobIndex}`, jobIndex);
}

function lossesOf(
  parts: readonly AdmittedPart[],
  taskCount: number,
  hasBefore: boolean,
): TaskLosses {
  const losses = {
    queryLosses: new Float64Array(taskCount),
    supportLosses: new Float64Array(taskCount),
    queryLossesBefore: hasBefore ? new Float64Array(taskCount) : null,
  };
  for (const { gradient } of parts)
    placeTaskLosses(gradient.tensors, gradient.part.taskPlaces, losses);
  return losses;
}

/** @param addends sums of the leading micro-batches, and then each of the others. */
function roundedSum([
  leading = new Float64Array(),
  ...others
]: readonly TensorValues[]): Float32Array {
  const sums = Float64Array.from(leading);
  for (const values of others) {
    if (!(values instanceof Float32Array))
      throw new Error('a single micro-batch has 32-bit values');
    demandSameLength(sums, values);
    const native = nativeRows();
    if (native !== null) native.sumAll(sums, values);
    else
      for (let index = 0; index < sums.length; index += 1)
        sums[index] = (sums[index] ?? NaN) + (values[index] ?? NaN);
  }
  return new Float32Array(sums);
}

function missing(name: string): never {
  throw new Error(`a part without ${name} was admitted`);
}
