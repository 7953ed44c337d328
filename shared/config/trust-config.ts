/** The section `trust` of a run config: which results are computed again before they are believed. */

import { z } from 'zod';

export const TrustConfigSchema = z
  .strictObject({
    recomputeShare: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe(
        'The share of the training jobs that a second worker computes too, to find workers that lie or are ' +
          'broken. It needs two workers to find one, and a third to tell which.',
      ),
  })
  .describe(
    'Which results are computed again before they are believed. It changes no honest result.',
  );
