/** The answers of the endpoints of a ranking server as schemas: for its description, and for its client. */

import { z } from 'zod';

/** JSON has no other numbers: a score beyond them is null. */
const numbers = z.array(z.number().nullable());
const counts = z.array(z.number());

const lists = {
  scores: numbers.describe('The output of the model: a logit, or a standardised value.'),
  probabilities: numbers.describe('Calibrated; null where the segment predicts a value.'),
  expected: numbers.describe('The probability, or the expected value.'),
  blocks: z.array(z.int()).describe("The number of the adgroup's block; 0 for an unknown adgroup."),
  segments: z.array(z.string().nullable()).describe('The segment whose label the block predicts.'),
  evidence: z
    .object({ supportRows: counts, clicks: counts, impressions: counts })
    .describe('What the block was adapted on.'),
};
const bundle = z.string().describe('The digest of the bundle that all of the answer comes from.');

const canary = z
  .literal(true)
  .optional()
  .describe('Whether the bundle is one that answers a share of requests beside the one in use.');
const number = z.number().nullable();
const ExplanationSchema = z.object({
  isExact: z
    .boolean()
    .describe('Whether shares are Shapley values: the model has no terms of more than two parts.'),
  candidates: z
    .array(
      z.object({
        candidate: z.int().describe('The place in the request.'),
        block: z.int(),
        isLive: z.boolean().describe('Whether the block adapted while serving.'),
        evidence: z.object({
          ...{ supportRows: z.number(), clicks: z.number(), impressions: z.number() },
        }),
        score: number.describe('The sum of the base and all shares.'),
        base: number.describe('The score of block 0 where nothing is known of any feature.'),
        blockShare: number.describe("What the adgroup's own block adds."),
        shares: z.record(z.string(), number).describe('What each feature adds.'),
      }),
    )
    .describe('The first candidates of the order, or of the request where there is none.'),
});
const explanation = ExplanationSchema.optional().describe('Where the request says `explain`.');

export const ScoreAnswerSchema = z.object({ bundle, canary, ...lists, explanation });

export const RankAnswerSchema = z.object({
  bundle,
  canary,
  order: z.array(z.int()).describe('Places in the request, the most valuable candidate first.'),
  values: numbers.describe('pacing * bid * expected ^ squash'),
  seed: z.int().nullable().describe('The seed that broke ties; null if there was none.'),
  ...lists,
  explanation,
  exploration: z
    .unknown()
    .optional()
    .describe('What was decided, where the server explores; null if nothing was.'),
});

export const BundleReportSchema = z.looseObject({
  ...{ bundle: z.string(), label: z.string(), taskColumns: z.array(z.string()) },
  scorer: z.object({ name: z.string(), reasonNotKernel: z.string().nullable() }),
  features: z.array(z.looseObject({ name: z.string(), kind: z.string() })),
  requests: z.looseObject({ answered: z.int(), refused: z.record(z.string(), z.int()) }),
});

export const DictionarySchema = z.object({
  bundle: z.string(),
  values: z.array(z.string().nullable()),
});

export const AdaptAnswerSchema = z.object({
  bundle: z.string(),
  live: z.boolean().describe("Whether the block is served in place of the bundle's."),
  adapted: z.boolean().optional().describe('Whether the block adapted to the rows.'),
  evidence: z
    .object({ supportRows: z.number(), clicks: z.number(), impressions: z.number() })
    .optional(),
  segment: z.string().nullable().optional(),
});

export const ReceiptsSchema = z.object({ receipts: z.array(z.string()) });

export const ExplorationReportSchema = z.looseObject({ policy: z.string(), decisions: z.int() });

export const ProblemSchema = z.looseObject({
  type: z.string(),
  status: z.int(),
  reason: z.string(),
  what: z.string(),
  where: z.string().optional(),
  expected: z.string().optional(),
  found: z.string().optional(),
  cure: z.string().optional(),
});
