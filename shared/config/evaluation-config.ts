/** The section `evaluation` of a run config: which arms are compared on held-out tasks, and how. */

import { z } from 'zod';
import { EVALUATED_ARMS } from './arms.js';

const positiveInt = z.int().positive();

export const EvaluationConfigSchema = z
  .strictObject({
    arms: z
      .array(z.enum(EVALUATED_ARMS))
      .min(1)
      .default([...EVALUATED_ARMS])
      .describe('The arms to compare.'),
    innerRates: z
      .array(z.number().positive().max(100))
      .min(1)
      .default([0.01, 0.03, 0.1, 0.3, 1])
      .describe(
        'Inner rates of the grid, as `method.innerRate`. Every adapted arm uses the cell that is best on validation tasks.',
      ),
    innerSteps: z
      .array(positiveInt.max(1000))
      .min(1)
      .default([1, 2, 5, 10, 20])
      .describe('Numbers of inner steps of the grid.'),
    sizeBucketEdges: z
      .array(positiveInt)
      .default([10, 30, 100, 300])
      .describe('Upper edges of the buckets of adgroups by size, in support rows.'),
    bootstrapSamples: z
      .int()
      .min(100)
      .max(100_000)
      .default(2000)
      .describe('Bootstrap samples behind each interval.'),
    confidence: z.number().gt(0.5).lt(1).default(0.95).describe('Coverage of the intervals.'),
    calibrationBins: z
      .int()
      .min(2)
      .max(1000)
      .default(20)
      .describe('Bins of the calibration curve and error.'),
    ndcgAt: positiveInt
      .max(1000)
      .default(5)
      .describe(
        "For labels that are values: the places of an adgroup's ranking that count in nDCG.",
      ),
    shots: z
      .array(z.int().nonnegative())
      .min(1)
      .max(100)
      .optional()
      .describe(
        'Numbers of support rows for a k-shot curve: every arm adapts on the first so many support rows ' +
          'of each test adgroup.',
      ),
    oracleColumn: z
      .string()
      .min(1)
      .optional()
      .describe(
        'A column of known true click probabilities (synthetic logs); adds the oracle arm.',
      ),
  })
  .describe('The comparison of arms on held-out adgroups.');
export type EvaluationConfig = z.infer<typeof EvaluationConfigSchema>;
