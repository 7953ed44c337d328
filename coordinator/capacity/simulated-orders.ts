/** The jobs of an outer step, and the parts of them, as they are sent to a number of workers. */

import { at } from '../../shared/base/arrays.js';
import { inSendingOrder } from '../dispatch/sending-order.js';
import {
  costOf,
  partsOf,
  wholeJobs,
  type DivisibleJob,
  type JobPart,
} from '../plan/orders/job-parts.js';
import type { Division } from './sampled-steps.js';
import { costAt, type StepCosts } from './step-costs.js';

/** By what the 64-bit sums of leading micro-batches are larger than a gradient. */
const EXACT_SUM_SIZE = 2;

/** A job or a part of one. */
export interface SimulatedOrder {
  /** Its padded rows, and those that its calls are worth. */
  readonly paddedRowCount: number;
  /** The rows of its tasks. */
  readonly ownRowCount: number;
  /** The rows of the whole job, whose inputs a part reads, and in whose layout it has gradients. */
  readonly rowCount: number;
  /** False where an earlier part of the job has brought the inputs to the queue server. */
  readonly bringsInputs: boolean;
  /** Whether the output has 64-bit numbers: it is the sum of leading micro-batches. */
  readonly hasExactSums: boolean;
}

/** The bytes of its output. */
export function outputByteCountOf(
  { rowCount, hasExactSums }: Pick<SimulatedOrder, 'rowCount' | 'hasExactSums'>,
  { outputByteCount }: Pick<StepCosts, 'outputByteCount'>,
): number {
  return costAt(outputByteCount, rowCount) * (hasExactSums ? EXACT_SUM_SIZE : 1);
}

/** In the order in which they are sent. */
export function simulatedOrders(
  jobs: readonly DivisibleJob[],
  costs: Pick<StepCosts, 'computeMs' | 'outputByteCount'>,
  workerCount: number,
  { dividesJobs, overlap, partByteCountMax }: Division,
): SimulatedOrder[] {
  const cuts = jobs.map(({ cut }) => costOf(cut));
  const totalMs = cuts.reduce((sum, cost) => sum + costAt(costs.computeMs, cost), 0);
  const msPerCost = totalMs / cuts.reduce((sum, cost) => sum + cost, 0);
  const carriesPartsOf = (jobIndex: number): boolean =>
    outputByteCountOf({ ...at(jobs, jobIndex), hasExactSums: true }, costs) <= partByteCountMax;
  const shares = { workerCount: () => workerCount, msPerCost, stepCount: overlap, carriesPartsOf };
  const parts = dividesJobs ? partsOf({ jobs }, shares) : wholeJobs({ jobs });
  const known = new Set<number>();
  return inSendingOrder(parts).map((part) => {
    const bringsInputs = !known.has(part.jobIndex);
    known.add(part.jobIndex);
    return { ...sizesOf(part, at(jobs, part.jobIndex)), bringsInputs };
  });
}

function sizesOf(
  { microBatches, rowCount: ownRowCount }: JobPart,
  { cut, rowCount }: DivisibleJob,
): Omit<SimulatedOrder, 'bringsInputs'> {
  return {
    paddedRowCount: costOf(cut.slice(microBatches?.first, microBatches?.end)),
    ...{ ownRowCount, rowCount },
    hasExactSums: microBatches !== null && microBatches.end - microBatches.first > 1,
  };
}
