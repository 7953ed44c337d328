/**
 * When the plan of the next outer step is read: as soon as every worker has its last job of this one. Earlier, reading
 * takes processor time from sending; later, all workers wait for it.
 */

import type { StepPlanner } from '../plan/step-plan.js';
import type { WorkerPace } from './worker-pace.js';

export interface PlanAhead {
  /** Hands on the results of an outer step with so many jobs, the first of which have left. */
  during<Of>(results: AsyncIterable<Of>, jobCount: number): AsyncGenerator<Of>;
}

/** @param pace that of the outer step before, when results are first asked for. */
export function planAhead(
  planner: Pick<StepPlanner, 'readAhead'>,
  pace: Pick<WorkerPace, 'workerCount'>,
): PlanAhead {
  return {
    async *during(results, jobCount) {
      const openCountMax = Math.max(1, pace.workerCount);
      let openCount = jobCount;
      if (openCount <= openCountMax) planner.readAhead();
      for await (const each of results) {
        openCount -= 1;
        if (openCount <= openCountMax) planner.readAhead();
        yield each;
      }
    },
  };
}
