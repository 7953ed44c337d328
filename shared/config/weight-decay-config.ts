/** The fields `weightDecay`, `tableWeightDecay` and `ridge` of `training`: the pull of parameters towards 0. */

import { z } from 'zod';

const decay = z.number().min(0).max(10_000);

export const WEIGHT_DECAY_FIELDS = {
  weightDecay: decay
    .default(0)
    .describe(
      'Pulls trunk and tables towards 0: an outer step takes the share rate * weightDecay of each value (decoupled, as ' +
        'in AdamW), which may not be above 1.',
    ),
  tableWeightDecay: decay
    .optional()
    .describe(
      'The same for rows of tables, in the outer steps that look them up; as weightDecay if absent. Rows of rare values need ' +
        'more of it than the trunk.',
    ),
  ridge: z
    .number()
    .min(0)
    .max(10_000)
    .optional()
    .describe(
      'Adds half of it times the sum of squares of the weights of the trunk to the mean loss (ridge regression); biases and tables ' +
        'have none. The optimizer follows both, so that a linear model ends where their sum is lowest, however it gets there. A pull ' +
        'as strong as n impressions is n divided by the impressions of training.',
    ),
};

/** A value that would be pulled beyond 0. */
export function decayIssues({
  optimizer: { rate },
  ...decays
}: {
  readonly optimizer: { readonly rate: number };
  readonly weightDecay: number;
  readonly tableWeightDecay?: number | undefined;
}): { readonly path: string; readonly message: string }[] {
  const { weightDecay, tableWeightDecay = 0 } = decays;
  return Object.entries({ weightDecay, tableWeightDecay })
    .filter(([, value]) => value * rate > 1)
    .map(([path, value]) => ({
      path,
      message: `takes the share rate * ${path} of each value, which may not be above 1: ${rate} * ${value}`,
    }));
}
