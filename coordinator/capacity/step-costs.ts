/** The costs of an outer step, by which the throughput of other numbers of workers is predicted. */

import { z } from 'zod';

/** A cost that grows with the rows of a job: `perJob + perRow * rows`. */
const LinearCostSchema = z.strictObject({
  perJob: z.number().nonnegative(),
  perRow: z.number().nonnegative(),
});
export type LinearCost = z.infer<typeof LinearCostSchema>;

export const StepCostsSchema = z.strictObject({
  /** From the last result of an outer step to the first job of the next. */
  serialMs: z.number().nonnegative(),
  /** The time in which a worker computes, by padded rows and those that calls are worth. */
  computeMs: LinearCostSchema,
  /** Measured times of jobs by those of `computeMs`, as often as they are drawn. */
  computeSpread: z.array(z.number().positive()).min(1).max(1_000),
  /** The time in which the coordinator computes, to send a job and to take its result, by rows. */
  coordinatorMs: LinearCostSchema,
  /**
   * The processor time of a job in all processes but the coordinator: workers, compute processes and the queue
   * server. By padded rows and those that calls are worth.
   */
  processorMs: LinearCostSchema,
  /** How long a worker neither computes nor waits for a job: it reads rows, fetches and returns. By rows. */
  idleMs: LinearCostSchema,
  /** The bytes that a worker fetches once in an outer step. */
  denseByteCount: z.number().nonnegative(),
  /** The bytes that a worker fetches in each job, and those that it puts, by rows. */
  inputByteCount: LinearCostSchema,
  outputByteCount: LinearCostSchema,
  /** The bytes that the queue server carries in a millisecond. */
  serverBytesPerMs: z.number().positive(),
});
export type StepCosts = z.infer<typeof StepCostsSchema>;

export function costAt({ perJob, perRow }: LinearCost, rowCount: number): number {
  return perJob + perRow * rowCount;
}

/** A job that was measured. */
export interface CostPoint {
  readonly rowCount: number;
  readonly cost: number;
}

/** The line of least squares, without a part below 0. It gives all points together what they cost. */
export function fittedCost(points: readonly CostPoint[]): LinearCost {
  const meanOf = (of: (point: CostPoint) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const rows = meanOf(({ rowCount }) => rowCount);
  const cost = meanOf((point) => point.cost);
  const spread = meanOf(({ rowCount }) => (rowCount - rows) ** 2);
  if (rows === 0) return { perJob: cost, perRow: 0 };
  if (spread === 0) return { perJob: 0, perRow: cost / rows };
  const perRow = meanOf((point) => (point.rowCount - rows) * (point.cost - cost)) / spread;
  if (perRow < 0) return { perJob: cost, perRow: 0 };
  const perJob = cost - perRow * rows;
  return perJob >= 0 ? { perJob, perRow } : { perJob: 0, perRow: cost / rows };
}
