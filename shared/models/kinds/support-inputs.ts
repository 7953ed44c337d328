/**
 * Support-derived inputs: number features that say what a task's support rows have shown, so that
 * every model and method may use them. The worker computes them from the rows of a job
 * (`worker/compute/batches/support-inputs.ts`); this file holds their settings and names.
 *
 * For a row, n and c are impressions and clicks of the task's other support rows, n_v and c_v those of
 * the rows that share its value of a category. With p the prior rate, s the smoothing
 * and o(q) = ln(q / (1 - q)):
 *
 *   clickRate       o(q) - o(p)        q = (c + s p) / (n + s)
 *   count           ln(1 + n) / 4
 *   target of v     o(q_v) - o(q)      q_v = (c_v + s q) / (n_v + s)
 *
 * all 0 without evidence. For labels that are values, whose means are standardised, o(q) is q and p is 0.
 * Target encodings: Micci-Barreca (SIGKDD Explorations 3(1), 2001), equation 3.
 */

import { z } from 'zod';

interface NamedInputs {
  readonly clickRate: boolean;
  readonly count: boolean;
  readonly targetEncodings: readonly string[];
}

export const SupportInputsSchema = z
  .strictObject({
    clickRate: z
      .boolean()
      .default(false)
      .describe("How the task's smoothed click rate differs from the prior rate."),
    count: z.boolean().default(false).describe('How many impressions that rate rests on.'),
    targetEncodings: z
      .array(z.string().min(1))
      .default([])
      .describe("Categories: how the click rate at the row's value differs from the task's."),
    smoothing: z
      .number()
      .positive()
      .max(1e6)
      .default(10)
      .describe('Impressions at the prior rate that the evidence is added to.'),
    priorRate: z.number().gt(0).lt(1).default(0.1).describe('The prior click rate.'),
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

/** Sums over support rows. */
interface LabelSums {
  readonly clicks: number;
  readonly impressions: number;
}

/** The inputs' formulas for labels of one kind, for a single row. */
export interface SupportFormulas {
  /** q, which target encodings shrink to. */
  readonly meanOf: (all: LabelSums) => number;
  /** @param mean q */
  readonly clickRate: (mean: number) => number;
  readonly count: (impressions: number) => number;
  /** @param mean q */
  readonly targetEncoding: (ofValue: LabelSums, mean: number) => number;
}

/** @param isOfValues whether labels are values, whose means are standardised. */
export function supportFormulasOf(
  { smoothing, priorRate }: Pick<SupportInputs, 'smoothing' | 'priorRate'>,
  isOfValues: boolean,
): SupportFormulas {
  const levelOf = (mean: number): number => (isOfValues ? mean : Math.log(mean / (1 - mean)));
  const prior = isOfValues ? 0 : priorRate;
  const priorLevel = levelOf(prior);
  const smoothed = ({ clicks, impressions }: LabelSums, mean: number): number =>
    (clicks + smoothing * mean) / (impressions + smoothing);
  return {
    meanOf: (all) => smoothed(all, prior),
    clickRate: (mean) => levelOf(mean) - priorLevel,
    count: (impressions) => Math.log1p(impressions) / 4,
    targetEncoding: (ofValue, mean) => levelOf(smoothed(ofValue, mean)) - levelOf(mean),
  };
}
