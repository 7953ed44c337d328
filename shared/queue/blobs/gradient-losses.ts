/**
 * The losses of a gradient job: its tasks' own, and the sums of them in its result. A part of a job cannot sum as
 * the whole job does, so its output carries the losses of its tasks.
 */

import { at, float64At } from '../../base/arrays.js';
import type { CodedTensor } from '../../tensors/tensor-codec.js';
import type { GradientWork, JobResult, JobSizeLosses } from '../protocol.js';

/** Unweighted losses by task of the job; 0 for a task without such rows. */
export interface TaskLosses {
  readonly queryLosses: Float64Array;
  readonly supportLosses: Float64Array;
  /** Query losses before adaptation; null where the work does not ask for them. */
  readonly queryLossesBefore: Float64Array | null;
}

type SummedLosses = Pick<
  JobResult,
  'weightedQueryLoss' | 'weightedSupportLoss' | 'weightedQueryLossBefore' | 'lossesBySize'
>;

type WeightedTasks = Pick<GradientWork, 'taskWeights' | 'sizeBuckets'>;

/** Sums in task order. Those that a result may leave out are absent where they are not finite. */
export function summedLossesOf(work: WeightedTasks, losses: TaskLosses): SummedLosses {
  const { taskWeights } = work;
  const { queryLosses, supportLosses, queryLossesBefore } = losses;
  const before = queryLossesBefore === null ? NaN : weightedSum(taskWeights, queryLossesBefore);
  const lossesBySize = sizeLossesOf(work, losses);
  return {
    weightedQueryLoss: weightedSum(taskWeights, queryLosses),
    weightedSupportLoss: weightedSum(taskWeights, supportLosses),
    ...(Number.isFinite(before) ? { weightedQueryLossBefore: before } : {}),
    ...(lossesBySize === undefined ? {} : { lossesBySize }),
  };
}

/** Undefined where the work names no buckets, and where a sum is not finite. */
export function sizeLossesOf(
  { taskWeights, sizeBuckets }: WeightedTasks,
  { queryLosses, supportLosses, queryLossesBefore }: TaskLosses,
): JobSizeLosses | undefined {
  if (sizeBuckets === undefined) return undefined;
  const bucketCount = 1 + sizeBuckets.reduce((last, bucket) => Math.max(last, bucket), -1);
  const sumsOf = (losses: Float64Array): number[] => {
    const sums = Array<number>(bucketCount).fill(0);
    for (const [task, bucket] of sizeBuckets.entries())
      if (bucket >= 0)
        sums[bucket] = at(sums, bucket) + at(taskWeights, task) * float64At(losses, task);
    return sums;
  };
  const [query, support] = [sumsOf(queryLosses), sumsOf(supportLosses)];
  if (![...query, ...support].every(Number.isFinite)) return undefined;
  const queryBefore = queryLossesBefore === null ? null : sumsOf(queryLossesBefore);
  const isTold = queryBefore?.every(Number.isFinite) === true;
  return { query, support, ...(isTold ? { queryBefore } : {}) };
}

function weightedSum(weights: readonly number[], losses: Float64Array): number {
  return weights.reduce((sum, weight, place) => sum + weight * float64At(losses, place), 0);
}

const TENSOR_NAMES = {
  queryLosses: 'losses.query',
  supportLosses: 'losses.support',
  queryLossesBefore: 'losses.queryBefore',
} as const;

/**
 * The losses of some tasks of a job as tensors `[places.length]`. They were computed in 32 bits, which these keep.
 *
 * @param places of the tasks in the job
 */
export function lossTensorsOf(
  losses: TaskLosses,
  places: readonly number[],
): [string, CodedTensor][] {
  return lossKindsOf(losses).map((kind) => {
    const ofTasks = losses[kind] ?? new Float64Array();
    const values = Float32Array.from(places, (place) => float64At(ofTasks, place));
    return [TENSOR_NAMES[kind], { shape: [places.length], values }];
  });
}

/** Names and shapes of the tensors of `lossTensorsOf`. */
export function lossTensorShapes(
  taskCount: number,
  asksBefore: boolean,
): (readonly [string, readonly number[]])[] {
  const queryLossesBefore = asksBefore ? new Float64Array() : null;
  return lossKindsOf({ queryLossesBefore }).map((kind) => [TENSOR_NAMES[kind], [taskCount]]);
}

/** Whether all losses are finite that a result must tell: those before adaptation may be absent from it. */
export function areTaskLossesFinite(
  tensors: ReadonlyMap<string, Pick<CodedTensor, 'values'>>,
): boolean {
  return lossKindsOf({ queryLossesBefore: null }).every((kind) =>
    tensors.get(TENSOR_NAMES[kind])?.values.every(Number.isFinite),
  );
}

/** Places the losses of a part among those of its job. */
export function placeTaskLosses(
  tensors: ReadonlyMap<string, { readonly values: ArrayLike<number> }>,
  places: readonly number[],
  losses: TaskLosses,
): void {
  for (const kind of lossKindsOf(losses)) {
    const values = tensors.get(TENSOR_NAMES[kind])?.values;
    for (const [index, place] of places.entries()) {
      const target = losses[kind];
      if (target !== null) target[place] = values?.[index] ?? NaN;
    }
  }
}

function lossKindsOf({
  queryLossesBefore,
}: Pick<TaskLosses, 'queryLossesBefore'>): readonly (keyof typeof TENSOR_NAMES)[] {
  const always = ['queryLosses', 'supportLosses'] as const;
  return queryLossesBefore === null ? always : [...always, 'queryLossesBefore'];
}
