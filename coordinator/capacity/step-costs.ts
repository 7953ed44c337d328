/** The costs of an outer step, by which the throughput of other numbers of workers is predicted. */

import { z } from 'zod';

/** A cost that grows with the tasks of a job: `perJob + perTask * tasks`. */
const LinearCostSchema = z.strictObject({
  perJob: z.number().nonnegative(),
  perTask: z.number().nonnegative(),
});
type LinearCost = z.infer<typeof LinearCostSchema>;

export const StepCostsSchema = z.strictObject({
  tasksPerOuterStep: z.int().positive(),
  /** From the last result of an outer step to the first job of the next. */
  serialMs: z.number().nonnegative(),
  /** The time in which a worker computes. */
  computeMs: LinearCostSchema,
  /** Times of jobs by their mean, as they were measured: `[0.9, 1.1]` are two jobs. */
  computeSpread: z.array(z.number().positive()).min(1).max(1_000),
  /** The time in which the coordinator computes, to send a job and to take its result. */
  coordinatorMs: LinearCostSchema,
  /**
   * The processor time of a job in all processes but the coordinator: workers, compute processes and the queue
   * server. Unknown, and 0, in what earlier versions have measured.
   */
  processorMs: LinearCostSchema.default({ perJob: 0, perTask: 0 }),
  /** How long a worker neither computes nor waits for a job, by job. */
  idleMs: z.number().nonnegative(),
  /** The bytes that a worker fetches once in an outer step and in each job, and those that it puts. */
  denseByteCount: z.number().nonnegative(),
  inputByteCount: LinearCostSchema,
  outputByteCount: LinearCostSchema,
  /** The bytes that the queue server carries in a millisecond. */
  serverBytesPerMs: z.number().positive(),
});
export type StepCosts = z.infer<typeof StepCostsSchema>;

export function costOf({ perJob, perTask }: LinearCost, taskCount: number): number {
  return perJob + perTask * taskCount;
}

/** The line through two measurements, without a part below 0. */
export function linearCost(
  first: { readonly tasks: number; readonly cost: number },
  second: { readonly tasks: number; readonly cost: number },
): LinearCost {
  if (first.tasks === second.tasks) return { perJob: 0, perTask: first.cost / first.tasks };
  const perTask = (first.cost - second.cost) / (first.tasks - second.tasks);
  const perJob = first.cost - perTask * first.tasks;
  if (perTask < 0) return { perJob: (first.cost + second.cost) / 2, perTask: 0 };
  if (perJob >= 0) return { perJob, perTask };
  return { perJob: 0, perTask: (first.cost + second.cost) / (first.tasks + second.tasks) };
}
