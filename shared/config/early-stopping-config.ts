/** The section `training.earlyStopping` of a run config: when training ends because it has stopped helping. */

import { z } from 'zod';

const positiveInt = z.int().positive();

export const EarlyStoppingConfigSchema = z
  .strictObject({
    everyOuterSteps: positiveInt
      .default(100)
      .describe('Validation adgroups are scored after every so many outer steps.'),
    patience: positiveInt
      .max(1_000)
      .default(3)
      .describe('Training ends when so many scores in a row were not better than the best.'),
    tasksMax: positiveInt
      .max(1_000_000)
      .default(1_000)
      .describe('The number of validation adgroups that are scored, spread over all of them.'),
    segment: z
      .string()
      .min(1)
      .optional()
      .describe('The segment whose adgroups are scored, where the store has segments.'),
  })
  .describe(
    'Training ends at the latest after `outerSteps`, and earlier when the loss of the validation adgroups ' +
      'stops falling: the lower one of without inner steps and with those of the method. The checkpoint with the lowest ' +
      'loss is kept, and `evaluate`, `export` and `startFrom` take it. Without this section, they take the last.',
  );
export type EarlyStoppingConfig = z.infer<typeof EarlyStoppingConfigSchema>;
