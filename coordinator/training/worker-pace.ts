/** The workers of a run, as its results tell: how many there are, and how long a unit of cost takes them. */

import type { JobResult } from '../../shared/queue/protocol.js';
import type { StepPlanner } from '../plan/step-plan.js';

type PacedResult = Pick<JobResult, 'worker' | 'jobIndex' | 'computeMs'>;

export class WorkerPace {
  /** The number in the latest outer step that returned results, as far as it has. */
  workerCount = 0;
  /** Null before the first results. */
  msPerCost: number | null = null;

  /**
   * Passes the results of an outer step on.
   *
   * @param costs by job index
   */
  async *noting<Of extends { readonly result: PacedResult }>(
    results: AsyncIterable<Of>,
    costs: readonly number[],
  ): AsyncGenerator<Of> {
    const workers = new Set<string>();
    let [computeMs, cost] = [0, 0];
    for await (const each of results) {
      workers.add(each.result.worker);
      this.workerCount = workers.size;
      computeMs += each.result.computeMs;
      cost += costs[each.result.jobIndex] ?? 0;
      yield each;
    }
    if (cost > 0) this.msPerCost = computeMs / cost;
  }
}

/** A worker computes its last job while the results of the others arrive. */
const OPEN_JOBS_MIN = 1;

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
      const openCountMax = Math.max(OPEN_JOBS_MIN, pace.workerCount - 1);
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
