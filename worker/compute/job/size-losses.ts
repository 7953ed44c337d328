/** The losses of a gradient job by the size of its tasks. */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { GradientWork, JobSizeLosses } from '../../../shared/queue/protocol.js';
import type { JobGradient } from './gradient-job.js';

type TaskLosses = Pick<JobGradient, 'queryLosses' | 'supportLosses'> &
  Partial<Pick<JobGradient, 'queryLossesBefore'>>;

/** Losses in task order. Undefined where the work names no buckets, and where a sum is not finite. */
export function sizeLossesOf(
  { taskWeights, sizeBuckets }: Pick<GradientWork, 'taskWeights' | 'sizeBuckets'>,
  { queryLosses, supportLosses, queryLossesBefore = null }: TaskLosses,
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
