/** The section `training.staleness` of a run config: outer steps that overlap. */

import { z } from 'zod';

export const StalenessConfigSchema = z
  .strictObject({
    outerSteps: z
      .int()
      .positive()
      .max(16)
      .default(1)
      .describe(
        'The number of outer steps that are computed ahead: the jobs of outer step t have the parameters ' +
          'after outer step t minus this number.',
      ),
    drainEveryOuterSteps: z
      .int()
      .positive()
      .max(1_000_000)
      .default(100)
      .describe(
        'At each multiple of it, no job leaves before all results have been applied. Only there a ' +
          'checkpoint is written, so outerSteps and checkpointEveryOuterSteps must be multiples of it.',
      ),
  })
  .describe(
    'Workers begin the next outer steps before the results of earlier ones are applied, so that they do not ' +
      'wait for the coordinator. The digest of a run depends on it, and not on timing. Every outer step ' +
      'waits for all results of the one before if absent.',
  );
export type StalenessConfig = z.infer<typeof StalenessConfigSchema>;
