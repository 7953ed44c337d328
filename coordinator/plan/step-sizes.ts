/** The tasks of an outer step by size: the buckets are those of evaluations. */

import { SIZE_BUCKETS_MAX } from '../../shared/events/size-losses.js';
import { EVERY_ADGROUP, sizeBucketIndexOf, sizeBuckets } from '../scoring/size-buckets.js';

/** Stands in place of a bucket: the task is no adgroup but a batch of trunk rows. */
export const NO_SIZE_BUCKET = -1;

export interface StepSizes {
  /** The bucket of each task, or `NO_SIZE_BUCKET` for a batch of trunk rows. */
  readonly bucketByTask: readonly number[];
  readonly taskCounts: readonly number[];
  readonly weights: readonly number[];
}

interface SizedTask {
  readonly supportRowCount: number;
  readonly weight: number;
  readonly isTrunk: boolean;
}

export interface SizeDivision {
  /** `0-10`, `>300` */
  readonly names: readonly string[];
  of(tasks: readonly SizedTask[]): StepSizes;
}

/** @param upperEdges those of evaluations; too many are cut, and the last bucket takes what lies above. */
export function sizeDivisionOf(upperEdges: readonly number[]): SizeDivision {
  const ascending = [...new Set(upperEdges)].sort((a, b) => a - b);
  const edges = ascending.slice(0, SIZE_BUCKETS_MAX - 1);
  const buckets = edges.length === 0 ? [EVERY_ADGROUP] : sizeBuckets(edges);
  return {
    names: buckets.map(({ name }) => name),
    of: (tasks) => {
      const taskCounts = buckets.map(() => 0);
      const weights = buckets.map(() => 0);
      const bucketByTask = tasks.map(({ supportRowCount, weight, isTrunk }) => {
        if (isTrunk) return NO_SIZE_BUCKET;
        const bucket = sizeBucketIndexOf(edges, supportRowCount);
        taskCounts[bucket] = (taskCounts[bucket] ?? 0) + 1;
        weights[bucket] = (weights[bucket] ?? 0) + weight;
        return bucket;
      });
      return { bucketByTask, taskCounts, weights };
    },
  };
}
