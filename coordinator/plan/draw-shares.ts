/**
 * Computes how often tasks are drawn relative to each other, for the rules that draw by share.
 * Pure.
 */

import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { sizeBucketIndexOf } from '../scoring/size-buckets.js';

type SamplingName = TrainingConfig['sampling'];
type DrawnByShare = Exclude<SamplingName, 'uniform' | 'sequential'>;

/** The edges in support rows that `evaluate` uses by default. */
const SIZE_BUCKET_EDGES = [10, 30, 100, 300];

export function isDrawnByShare(sampling: SamplingName): sampling is DrawnByShare {
  return sampling !== 'uniform' && sampling !== 'sequential';
}

/** One positive number per task, `[taskCount]`. Only their ratios matter. */
export function drawSharesOf(
  tasks: readonly TaskEntry[],
  sampling: DrawnByShare,
  sizeBucketEdges: readonly number[] = SIZE_BUCKET_EDGES,
): Float64Array {
  switch (sampling) {
    case 'proportional':
    case 'rows':
      return Float64Array.from(tasks, rowCountOf);
    case 'square-root':
      return Float64Array.from(tasks, (task) => Math.sqrt(rowCountOf(task)));
    case 'size-buckets':
      return equalBuckets(tasks, sizeBucketEdges);
  }
}

/** The share of a bucket without tasks goes to the other buckets in equal parts. */
function equalBuckets(tasks: readonly TaskEntry[], edges: readonly number[]): Float64Array {
  const bucketOf = (task: TaskEntry): number => sizeBucketIndexOf(edges, task.supportRowCount);
  const taskCounts = new Map<number, number>();
  for (const task of tasks) {
    const bucket = bucketOf(task);
    taskCounts.set(bucket, (taskCounts.get(bucket) ?? 0) + 1);
  }
  return Float64Array.from(tasks, (task) => 1 / (taskCounts.get(bucketOf(task)) ?? 1));
}

function rowCountOf(task: TaskEntry): number {
  return task.supportRowCount + task.queryRowCount;
}
