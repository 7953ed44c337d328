/** The fields `dropout` and `idDropout` of `training`: what training leaves out at random. */

import { z } from 'zod';

/** Beyond this, a tenth of the units would stand for all. */
export const DROPOUT_RATE_MAX = 0.9;

const rate = z.number().min(0).max(DROPOUT_RATE_MAX);

export const DROPOUT_FIELDS = {
  dropout: rate
    .optional()
    .describe(
      'The share of hidden units that is left out of each row in training, drawn anew in every outer step; the ' +
        'others are scaled up. Nothing is left out in evaluations, in bundles and in serving. None if absent.',
    ),
  inputDropout: rate
    .optional()
    .describe(
      "The share of the values of fields' embeddings that is left out of what the first hidden layer reads, in the same way; linear terms and " +
        'products of fields keep them. Layers that are stacked on the cross layers of dcn-v2 read these values crossed. None if absent.',
    ),
  idDropout: z
    .union([rate, z.record(z.string().min(1), rate)])
    .optional()
    .describe(
      'The share of the ids of categories and bags that training replaces by the id of unknown values, drawn anew in ' +
        'every outer step, so that the row of unknown values learns what a new value is like: one rate for all, ' +
        'or rates by feature. None if absent.',
    ),
};

/** Rates by feature that name no feature with ids. */
export function idDropoutMisfits(
  idDropout: number | Readonly<Record<string, number>> | undefined,
  tableNames: readonly string[],
): { readonly path: readonly string[]; readonly message: string }[] {
  if (typeof idDropout !== 'object') return [];
  return Object.keys(idDropout)
    .filter((name) => !tableNames.includes(name))
    .map((name) => ({
      path: ['idDropout', name],
      message: `expected a category or a bag: one of ${tableNames.join(', ')}`,
    }));
}
