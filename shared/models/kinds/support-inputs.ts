/**
 * Support-derived inputs: number features that say what a task's support rows have shown, so that
 * every model and method may use them. Computed by the worker from the rows of a job
 * (`worker/compute/batches/support-inputs.ts`); here are their settings and their names.
 *
 * Of a row, n and c are impressions and clicks of the task's support rows, its own left out, n_v and
 * c_v those of them that have the row's value of a category. With p the prior rate, s the smoothing
 * and o(q) = ln(q / (1 - q)):
 *
 *   clickRate       o(q) - o(p)        q = (c + s p) / (n + s)
 *   count           ln(1 + n) / 4
 *   target of v     o(q_v) - o(q)      q_v = (c_v + s q) / (n_v + s)
 *
 * all 0 where there is no evidence. Of values in place of clicks, whose means are standardised, o(q) is q
 * and p is 0. Target encodings: Micci-Barreca (SIGKDD Explorations 3(1), 2001), equation 3.
 */

import { z } from 'zod';

/** Which inputs there are. */
interface NamedInputs {
  readonly clickRate: boolean;
  readonly count: boolean;
  readonly targetEncodings: readonly string[];
}

export const SupportInputsSchema = z
  .strictObject({
    /** How the task's smoothed click rate departs from the prior rate. */
    clickRate: z.boolean().default(false),
    /** How many impressions that rests on. */
    count: z.boolean().default(false),
    /** Categories: how the click rate at the row's value departs from the task's. */
    targetEncodings: z.array(z.string().min(1)).default([]),
    /** Impressions at the prior rate that evidence is weighed against. */
    smoothing: z.number().positive().max(1e6).default(10),
    priorRate: z.number().gt(0).lt(1).default(0.1),
  })
  .refine((inputs) => supportInputNames(inputs).length > 0, {
    message: 'names no input: expected clickRate, count or targetEncodings, or nothing at all',
  });

export type SupportInputs = z.infer<typeof SupportInputsSchema>;

/** The names of the number features, in order, that follow those of the data. */
export function supportInputNames(inputs: NamedInputs | undefined): string[] {
  if (inputs === undefined) return [];
  return [
    ...(inputs.clickRate ? ['support.clickRate'] : []),
    ...(inputs.count ? ['support.count'] : []),
    ...inputs.targetEncodings.map((feature) => `support.target.${feature}`),
  ];
}
