/** The section `evaluation` of a run config: which arms are compared on held-out tasks, and how. */

import { z } from 'zod';
import { DEFAULT_ARMS, EVALUATED_ARMS } from './arms.js';

const positiveInt = z.int().positive();

const PhasesSchema = z
  .strictObject({
    count: positiveInt.max(25).default(3).describe('The number of minibatches.'),
    rowsPerPhase: positiveInt.max(65_536).default(20).describe('Support rows in each minibatch.'),
  })
  .describe(
    'Cold, warm-a, warm-b, ... (Pan et al., SIGIR 2019): metrics on the query rows after 0, 1, 2, ... ' +
      "successive minibatches of each test adgroup's support rows, each continuing from the one before. " +
      'Settings are chosen on validation adgroups after the last phase.',
  );

const ProgressiveSchema = z
  .strictObject({
    periodSeconds: z.number().positive().default(86_400).describe('Length of a period.'),
    periodsMax: positiveInt
      .default(60)
      .describe('An evaluation of more periods is refused: each is a pass over its adgroups.'),
  })
  .describe(
    'Progressive validation: rows of a period are predicted by models that have adapted on the periods ' +
      'before it.',
  );

export const EvaluationConfigSchema = z
  .strictObject({
    arms: z
      .array(z.enum(EVALUATED_ARMS))
      .min(1)
      .default([...DEFAULT_ARMS])
      .describe(
        'The arms to compare. The arm blend, which adds up the outputs of the others by weights that are fitted to ' +
          'the validation tasks, is evaluated only if it is named.',
      ),
    validationDraws: positiveInt
      .max(50)
      .optional()
      .describe(
        'Divisions of the rows of each validation task into support and query rows that choose together: that of ' +
          'the store and others, drawn from the seed. Each is a pass over the validation tasks. 1 if absent.',
      ),
    innerRates: z
      .array(z.number().positive().max(100))
      .min(1)
      .default([0.01, 0.03, 0.1, 0.3, 1])
      .describe(
        'Inner rates of the grid. Every adapted arm uses the cell that is best on validation tasks.',
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
    phases: PhasesSchema.optional(),
    progressive: ProgressiveSchema.optional(),
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
