/** The losses of a gradient job by the size of its tasks. */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { GradientWork, JobSizeLosses } from '../../../shared/queue/protocol.js';
import type { JobGradient } from './gradient-job.js';

type TaskLosses = Pick<JobGradient, 'queryLosses' | 'supportLosses'>;

/** Losses in task order. Undefined where the work names no buckets, and where a sum is not finite. */
export function sizeLossesOf(
  { taskWeights, sizeBuckets }: Pick<GradientWork, 'taskWeights' | 'sizeBuckets'>,
  { queryLosses, supportLosses }: TaskLosses,
): JobSizeLosses | undefined {
  if (sizeBuckets === undefined) return undefined;
  const bucketCount = 1 + sizeBuckets.reduce((last, bucket) => Math.max(last, bucket), -1);
  const query = Array<number>(bucketCount).fill(0);
  const support = Array<number>(bucketCount).fill(0);
  for (const [task, bucket] of sizeBuckets.entries()) {
    if (bucket < 0) continue;
    const weight = at(taskWeights, task);
    query[bucket] = at(query, bucket) + weight * float64At(queryLosses, task);
    support[bucket] = at(support, bucket) + weight * float64At(supportLosses, task);
  }
  return [...query, ...support].every(Number.isFinite) ? { query, support } : undefined;
}
