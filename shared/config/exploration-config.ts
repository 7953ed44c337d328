/** The section `exploration` of a run config: how much traffic explores, where, and by which policy. */

import { z } from 'zod';

const share = z.number().min(0).max(1);

const ExplorationShareSchema = z.discriminatedUnion('kind', [
  z
    .strictObject({
      kind: z.literal('fixed'),
      share: share.default(0.05).describe('The probability that a declared slot explores.'),
    })
    .describe('The same share always.'),
  z
    .strictObject({
      kind: z.literal('loss-bound'),
      lossMax: share
        .default(0.01)
        .describe(
          'The expected value that a slot, and so a slate, may lose, as a part of its value without exploration. Classes divide it.',
        ),
      shareMax: share.default(0.2).describe('The largest share, however little it costs.'),
    })
    .describe('As large a share as its expected short-term loss allows, by the model of the day.'),
]);
export type ExplorationShare = z.infer<typeof ExplorationShareSchema>;

const FeedbackSchema = z
  .strictObject({
    windowSeconds: z
      .number()
      .positive()
      .max(90 * 86_400)
      .default(3_600)
      .describe('How long after an impression its outcome counts.'),
    eventLifetimeSeconds: z
      .number()
      .positive()
      .max(365 * 86_400)
      .default(7 * 86_400)
      .describe('How long an event id is remembered, so that it counts once.'),
    adgroupLifetimeSeconds: z
      .number()
      .positive()
      .max(3_650 * 86_400)
      .default(90 * 86_400)
      .describe('How long the evidence of an adgroup without impressions is kept.'),
    eventsMax: z
      .int()
      .min(1)
      .max(10_000_000)
      .default(1_000_000)
      .describe('Remembered event ids. More are refused until some expire.'),
    adgroupsMax: z
      .int()
      .min(1)
      .max(10_000_000)
      .default(1_000_000)
      .describe('Adgroups with evidence. Impressions of more are refused until some expire.'),
  })
  .refine((feedback) => feedback.windowSeconds <= feedback.eventLifetimeSeconds, {
    error:
      'must not exceed eventLifetimeSeconds: an event would be forgotten before its window ends',
    path: ['windowSeconds'],
  })
  .refine((feedback) => feedback.windowSeconds <= feedback.adgroupLifetimeSeconds, {
    error:
      'must not exceed adgroupLifetimeSeconds: an adgroup would be forgotten before the windows of its impressions end',
    path: ['windowSeconds'],
  });

export const ExplorationConfigSchema = z
  .strictObject({
    mode: z
      .enum(['off', 'apprentice', 'active'])
      .default('off')
      .describe('Whether decisions are made at all, made and logged only, or acted on.'),
    policy: z
      .enum(['epsilon-greedy', 'ucb', 'thompson'])
      .default('thompson')
      .describe('How an exploring slot chooses among the adgroups that may be explored.'),
    slots: z
      .array(z.int().min(1).max(1000))
      .max(100)
      .default([1])
      .describe('The places of the slate that may explore, the first being 1.'),
    share: ExplorationShareSchema.prefault({ kind: 'fixed' }).describe(
      'The probability that a slot explores.',
    ),
    classes: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(100).describe('The class of advertisers.'),
          share: ExplorationShareSchema.describe('The share for adgroups of this class.'),
        }),
      )
      .max(16)
      .default([])
      .describe('Classes of advertisers with shares of their own. The others use `share`.'),
    classColumn: z
      .string()
      .min(1)
      .max(200)
      .default('advertiserClass')
      .describe(
        'The column of a ranking request that names the class of a candidate. The bundle need not read it.',
      ),
    cutOff: z
      .strictObject({
        impressions: z
          .int()
          .min(1)
          .max(1_000_000_000)
          .default(1000)
          .describe(
            'An adgroup with this many impressions, open ones included, is no longer explored.',
          ),
        ageSeconds: z
          .number()
          .positive()
          .max(3_650 * 86_400)
          .optional()
          .describe('An adgroup of this age is no longer explored.'),
      })
      .prefault({})
      .describe('When an adgroup is known well enough.'),
    priorImpressions: z
      .number()
      .positive()
      .max(1_000_000)
      .default(100)
      .describe(
        'The number of impressions that the calibrated probability of the model is worth, where its blocks have no variances.',
      ),
    feedback: FeedbackSchema.prefault({}).describe('Outcomes, and what is kept of them.'),
  })
  .superRefine(({ slots, classes }, context) => {
    if (new Set(slots).size < slots.length)
      context.addIssue({ code: 'custom', path: ['slots'], message: 'name each place once' });
    if (new Set(classes.map(({ name }) => name)).size < classes.length)
      context.addIssue({ code: 'custom', path: ['classes'], message: 'name each class once' });
  })
  .describe('Exploration of adgroups with little evidence, while ranking.');
export type ExplorationConfig = z.infer<typeof ExplorationConfigSchema>;
