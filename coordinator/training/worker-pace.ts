/** The workers of a run, as its results tell: how many there are, and how long a unit of cost takes them. */

import type { JobResult } from '../../shared/queue/protocol.js';

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
