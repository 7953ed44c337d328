/** What the results of a run tell of its workers: how many there are, and how long a unit of cost takes them. */

import type { JobResult } from '../../shared/queue/protocol.js';
import type { WorkerShares } from '../plan/orders/job-parts.js';

type PacedResult = Pick<JobResult, 'worker' | 'jobIndex' | 'computeMs'>;

export class WorkerPace implements Pick<WorkerShares, 'workerCount' | 'msPerCost'> {
  /** Of the latest outer step that returned results, as far as it has. */
  workerCount: number;
  msPerCost: number | null = null;

  /** @param executorCount the number of jobs that are computed at once, where it is known */
  constructor(private readonly executorCount = 0) {
    this.workerCount = executorCount;
  }

  /**
   * Hands on the results of an outer step.
   *
   * @param costs by job index
   */
  async *noted<Of extends { readonly result: PacedResult }>(
    results: AsyncIterable<Of>,
    costs: readonly number[],
  ): AsyncGenerator<Of> {
    const workers = new Set<string>();
    let [computeMs, cost] = [0, 0];
    for await (const each of results) {
      workers.add(each.result.worker);
      this.workerCount = Math.max(this.executorCount, workers.size);
      computeMs += each.result.computeMs;
      cost += costs[each.result.jobIndex] ?? 0;
      yield each;
    }
    if (cost > 0) this.msPerCost = computeMs / cost;
  }
}
