/** The losses of an outer step, added up in job order whatever the order of arrival. */

import type { SizeLosses } from '../../../shared/events/size-losses.js';
import type { JobSizeLosses } from '../../../shared/queue/protocol.js';
import type { JobSizes } from '../../plan/job-sizes.js';

/** The losses of a job by size, with the tasks that they are of. */
export interface SizedJobLosses extends Pick<JobSizes, 'taskCounts' | 'weights'> {
  readonly losses: JobSizeLosses;
}

/** Sums by bucket. */
type SizeSums = Readonly<Omit<SizeLosses, 'sizes'>>;

/** The losses of an outer step: sums over its tasks, weighted as their gradients are. */
export interface StepLosses {
  readonly queryLoss: number;
  /** Query loss before adaptation; null where a job has none. */
  readonly queryLossBefore: number | null;
  /** Support loss before adaptation. */
  readonly supportLoss: number;
  /** Null where a job has none. */
  readonly bySize: SizeSums | null;
}

interface JobLosses {
  readonly weightedQueryLoss: number;
  readonly weightedSupportLoss: number;
  readonly weightedQueryLossBefore: number | null;
  readonly bySize: SizedJobLosses | null;
}

const NO_SUMS: SizeSums = {
  ...{ taskCounts: [], weights: [] },
  ...{ queryLossSums: [], supportLossSums: [], queryLossBeforeSums: [] },
};
export const NO_LOSSES: StepLosses = {
  ...{ queryLoss: 0, queryLossBefore: 0, supportLoss: 0 },
  bySize: NO_SUMS,
};

/** @param sums those of the jobs before it, in job order. */
export function withJobLosses(sums: StepLosses, job: JobLosses): StepLosses {
  return {
    queryLoss: sums.queryLoss + job.weightedQueryLoss,
    queryLossBefore:
      sums.queryLossBefore === null || job.weightedQueryLossBefore === null
        ? null
        : sums.queryLossBefore + job.weightedQueryLossBefore,
    supportLoss: sums.supportLoss + job.weightedSupportLoss,
    bySize: sums.bySize === null || job.bySize === null ? null : withSizes(sums.bySize, job.bySize),
  };
}

/** Counts and weights have all buckets; losses none behind the last one that the job has a task in. */
function withSizes(sums: SizeSums, { taskCounts, weights, losses }: SizedJobLosses): SizeSums {
  const added = (before: readonly number[], more: readonly number[]): number[] =>
    taskCounts.map((_, bucket) => (before[bucket] ?? 0) + (more[bucket] ?? 0));
  return {
    taskCounts: added(sums.taskCounts, taskCounts),
    weights: added(sums.weights, weights),
    queryLossSums: added(sums.queryLossSums, losses.query),
    supportLossSums: added(sums.supportLossSums, losses.support),
    ...(sums.queryLossBeforeSums === undefined || losses.queryBefore === undefined
      ? {}
      : { queryLossBeforeSums: added(sums.queryLossBeforeSums, losses.queryBefore) }),
  };
}

/** An outer step without some of its jobs, as if the others were all. @param share that of their task weights. */
export function lossesWithoutMissing(
  { queryLoss, queryLossBefore, supportLoss, bySize }: StepLosses,
  share: number,
): StepLosses {
  const divided = (sums: readonly number[]): number[] => sums.map((sum) => sum / share);
  return {
    queryLoss: queryLoss / share,
    queryLossBefore: queryLossBefore === null ? null : queryLossBefore / share,
    supportLoss: supportLoss / share,
    bySize: bySize && {
      taskCounts: bySize.taskCounts,
      weights: divided(bySize.weights),
      queryLossSums: divided(bySize.queryLossSums),
      supportLossSums: divided(bySize.supportLossSums),
      ...(bySize.queryLossBeforeSums === undefined
        ? {}
        : { queryLossBeforeSums: divided(bySize.queryLossBeforeSums) }),
    },
  };
}
