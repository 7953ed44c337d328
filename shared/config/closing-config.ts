/** The section `training.closing` of a run config: when an outer step has enough results. */

import { z } from 'zod';

const durationMs = z.int().max(86_400_000);

export const ClosingConfigSchema = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('all') }).describe('Every delivery has a result.'),
    z
      .strictObject({
        kind: z.literal('quorum'),
        share: z
          .number()
          .gt(0)
          .max(1)
          .default(0.9)
          .describe('The share of the leaves that must have a result, rounded up.'),
        graceMs: durationMs
          .nonnegative()
          .default(1_000)
          .describe('How long the others are waited for once these are there.'),
      })
      .describe('Enough leaves have a result, and the others had some time more.'),
    z
      .strictObject({
        kind: z.literal('deadline'),
        afterMs: durationMs
          .positive()
          .describe(
            'The time from the first job of an outer step to its end, at most queue.outerStepTimeoutMs.',
          ),
        shareMin: z
          .number()
          .gt(0)
          .max(1)
          .default(0.5)
          .describe('The share of the leaves that must have a result by then, rounded up.'),
      })
      .describe('The time is over, and enough leaves have a result.'),
  ])
  .describe(
    'When an outer step takes the results that it has. Leaves without one are left out: the others weigh ' +
      'more, and checkpoints record which were left out, so that train --replay repeats the run. With too few ' +
      'results the open deliveries are sent once more, then the run stops and can be resumed.',
  );
export type ClosingConfig = z.infer<typeof ClosingConfigSchema>;

export const ALL_RESULTS: ClosingConfig = { kind: 'all' };
