/**
 * When the plan of the next outer step is read: as soon as a worker has nothing left to do in this one. Earlier, reading
 * takes processor time from computing where both share a machine; later, all workers wait for it.
 */

import type { JobResult } from '../../shared/queue/protocol.js';
import type { StepPlanner } from '../plan/step-plan.js';

/** A worker computes its last job while the results of the others arrive. */
const OPEN_JOBS_MIN = 1;

export interface PlanAhead {
  /** Hands on the results of an outer step with so many jobs, the first of which have left. */
  during<Of extends { readonly result: Pick<JobResult, 'worker'> }>(
    results: AsyncIterable<Of>,
    jobCount: number,
  ): AsyncGenerator<Of>;
}

export function planAhead(planner: Pick<StepPlanner, 'readAhead'>): PlanAhead {
  /** The number of workers that returned results of the outer step before. */
  let workerCount = 0;
  return {
    async *during(results, jobCount) {
      const openCountMax = Math.max(OPEN_JOBS_MIN, workerCount - 1);
      const workers = new Set<string>();
      let openCount = jobCount;
      if (openCount <= openCountMax) planner.readAhead();
      for await (const each of results) {
        openCount -= 1;
        workers.add(each.result.worker);
        workerCount = workers.size;
        if (openCount <= openCountMax) planner.readAhead();
        yield each;
      }
    },
  };
}
