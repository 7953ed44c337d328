/** The answer of a ranking server about one adgroup, which the dashboard reads. */

import { z } from 'zod';

const ServedSchema = z
  .object({
    impressions: z.number(),
    explored: z.number().describe('Those that exploration gave.'),
    propensities: z
      .number()
      .describe('Sum of the probabilities with which slots showed what they showed.'),
  })
  .describe('Impressions of which it is known how they came to be shown.');

export const ServedAdgroupSchema = z.object({
  adgroup: z.string(),
  impressions: z.number().describe('Those whose window has ended or whose outcome is there.'),
  rewards: z.number(),
  open: z.number().describe('Impressions whose window has not ended.'),
  firstMs: z.number().nullable().describe('The first impression; null if there was none.'),
  served: ServedSchema,
  all: ServedSchema.describe('The same of all adgroups, since the evidence began.'),
});
export type ServedAdgroup = z.output<typeof ServedAdgroupSchema>;
