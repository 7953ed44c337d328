/**
 * When the plan of the next outer step is read: as soon as a worker has nothing left to do in this one. Earlier, reading
 * takes processor time from computing where both share a machine; later, all workers wait for it.
 */

import type { JobResult } from '../../shared/queue/protocol.js';
import type { StepPlanner } from '../plan/step-plan.js';

/** A worker computes its last job while the results of the others arrive. */
const OPEN_JOBS_MIN = 1;

interface PlanAhead {
  /** The jobs of an outer step have left. */
  sent(jobCount: number): void;
  admitted(result: Pick<JobResult, 'worker'>): void;
}

export function planAhead(planner: Pick<StepPlanner, 'readAhead'>): PlanAhead {
  let openCount = 0;
  /** Of the outer step before. */
  let workerCount = 0;
  let workers = new Set<string>();
  const readIfIdle = (): void => {
    if (openCount <= Math.max(OPEN_JOBS_MIN, workerCount - 1)) planner.readAhead();
  };
  return {
    sent(jobCount) {
      openCount = jobCount;
      workerCount = workers.size;
      workers = new Set();
      readIfIdle();
    },
    admitted({ worker }) {
      openCount -= 1;
      workers.add(worker);
      readIfIdle();
    },
  };
}
