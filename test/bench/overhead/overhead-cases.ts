/** The loads under which the overhead of coordinator, queue and work loops is measured. */

import { z } from 'zod';

/** Workers that compute nothing, or sleep for the time of a job. */
const LoadSchema = z.strictObject({
  workerCount: z.int().positive(),
  /** The processes that the workers share. */
  processCount: z.int().positive(),
  /** How long a job sleeps. */
  jobMs: z.number().nonnegative(),
  /** The shares by which jobs are longer or shorter, at most. */
  jobSpread: z.number().min(0).max(1),
  /** The size of a job's own input, and of its output. */
  byteCount: z.int().positive(),
  /** Added to the way of every command to Redis. */
  latencyMs: z.number().nonnegative(),
  jobsPerStep: z.int().positive(),
  /** Measured outer steps; the first ones are not. */
  stepCount: z.int().positive(),
  warmUpSteps: z.int().nonnegative(),
});
export type Load = z.infer<typeof LoadSchema>;

const NO_OP = { jobMs: 0, jobSpread: 0, latencyMs: 0 };

export const LOADS = {
  step: {
    ...{ workerCount: 8, processCount: 2, jobMs: 50, jobSpread: 0.2, latencyMs: 0 },
    ...{ byteCount: 64 * 1024, jobsPerStep: 8, stepCount: 80, warmUpSteps: 40 },
  },
  throughput: {
    ...NO_OP,
    ...{ workerCount: 64, processCount: 2, latencyMs: 2 },
    ...{ byteCount: 64 * 1024, jobsPerStep: 640, stepCount: 3, warmUpSteps: 1 },
  },
  small: {
    ...NO_OP,
    ...{ workerCount: 8, processCount: 2 },
    ...{ byteCount: 64 * 1024, jobsPerStep: 256, stepCount: 12, warmUpSteps: 4 },
  },
  large: {
    ...NO_OP,
    ...{ workerCount: 8, processCount: 2 },
    ...{ byteCount: 2 * 1024 * 1024, jobsPerStep: 32, stepCount: 12, warmUpSteps: 4 },
  },
  waiting: {
    ...{ workerCount: 64, processCount: 2, jobMs: 100, jobSpread: 0.1, latencyMs: 0 },
    ...{ byteCount: 4 * 1024, jobsPerStep: 1_280, stepCount: 3, warmUpSteps: 2 },
  },
} satisfies Readonly<Record<string, Load>>;

/** The bytes of `throughput` with no more commands than carry them. */
export const BARE_LOAD: Load = LOADS.throughput;

/** In virtual time, where a process takes no time of its own. */
export const SIMULATED_LOAD: Load = {
  ...{ workerCount: 1_000, processCount: 1, jobMs: 100, jobSpread: 0.1, latencyMs: 2 },
  ...{ byteCount: 64, jobsPerStep: 8_000, stepCount: 1, warmUpSteps: 0 },
};

export type LoadName = keyof typeof LOADS;
export const CASE_NAMES = [
  ...(['step', 'throughput', 'bare', 'small', 'large', 'waiting', 'simulated'] as const),
] as const;
export type CaseName = (typeof CASE_NAMES)[number];

/** What a process of the bench is told on its command line, as JSON. */
const PartSchema = z.strictObject({
  /** The checkout whose compiled production code is measured. */
  checkout: z.string(),
  redisUrl: z.string(),
  load: LoadSchema,
  /** The place of a worker process among those of the load. */
  place: z.int().nonnegative(),
  /** The processes whose processor time is counted, by name. */
  pids: z.record(z.string(), z.array(z.int())),
});
export type Part = z.infer<typeof PartSchema>;

export function partOf(argument: string | undefined): Part {
  return PartSchema.parse(JSON.parse(argument ?? ''));
}

const MeasuredStepSchema = z.strictObject({
  /** From the call of the dispatcher to the last result. */
  stepMs: z.number(),
  longestJobMs: z.number(),
  /** The sum of the times of all jobs. */
  jobsMs: z.number(),
  jobCount: z.int(),
});
export const MeasuredLoadSchema = z.strictObject({
  steps: z.array(MeasuredStepSchema),
  /** Processor time during the measured steps, by name of the process. */
  processorMs: z.record(z.string(), z.number()),
});
export type MeasuredStep = z.infer<typeof MeasuredStepSchema>;
export type MeasuredLoad = z.infer<typeof MeasuredLoadSchema>;
