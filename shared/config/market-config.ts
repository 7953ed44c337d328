/** MarketConfig: a simulated market of advertisers, and the runs that are trained for it. */

import { z } from 'zod';
import { AddressSchema } from './data-config.js';
import { ExplorationConfigSchema } from './exploration-config.js';
import {
  checkedConfig,
  parseYaml,
  readConfigFile,
  readTextFile,
  type FileKind,
} from './yaml-file.js';

/** The seeds of a market, at most. */
const SEEDS_MAX = 100;
/** Days of a log of the synthetic world. */
const LOG_DAYS = 14;
const SECONDS_PER_DAY = 86_400;
const AUCTIONS_MAX = 5_000_000;

/** Fields of the section `run` that the market fills in: a section of it, and the name. */
const FILLED_IN = [
  [null, 'run'],
  [null, 'seed'],
  [null, 'output'],
  ['data', 'logs'],
  ['data', 'store'],
] as const;

const share = z.number().min(0).max(1);

const WorldSchema = z
  .strictObject({
    setting: z
      .enum(['homogeneous', 'moderate', 'strong'])
      .default('strong')
      .describe('How far adgroups deviate from what their attributes explain.'),
    clickRate: z.number().min(0.001).max(0.5).default(0.1).describe('Mean click rate of its log.'),
    rows: z
      .int()
      .min(1_000)
      .max(20_000_000)
      .default(200_000)
      .describe('Impressions of its log in 14 days. Only those before the market are written.'),
    adgroups: z.int().min(20).max(50_000).default(1_200).describe('Adgroups, arriving ones too.'),
    users: z.int().min(100).max(1_000_000).default(8_000).describe('Users.'),
  })
  .describe('The synthetic world. Each seed has a world of its own.');

const BudgetsSchema = z
  .strictObject({
    pressure: z
      .number()
      .positive()
      .max(100)
      .default(1.5)
      .describe(
        'All budgets of a day, divided by what a day would earn if every auction went to the truly best adgroup.',
      ),
    sizeExponent: z
      .number()
      .min(0)
      .max(1)
      .default(0.5)
      .describe(
        'An adgroup has budget, and is a candidate, in proportion to its impressions in the log to this power.',
      ),
    smallShare: share
      .default(0.5)
      .describe('This share of the advertisers, those with least budget, are small.'),
    largeShare: share
      .default(0.1)
      .describe('This share of the advertisers, those with most budget, are large.'),
  })
  .refine(({ smallShare, largeShare }) => smallShare + largeShare <= 1, {
    error: 'smallShare + largeShare must not exceed 1',
    path: ['largeShare'],
  })
  .describe('Daily budgets of the advertisers, and what counts as small and large.');

const PacingSchema = z
  .strictObject({
    gain: z
      .number()
      .min(0)
      .max(2)
      .default(0.3)
      .describe(
        'How strongly an hour that spent too much or too little moves the multiplier; 0 for no pacing.',
      ),
    multiplierMin: z
      .number()
      .positive()
      .max(1)
      .default(0.1)
      .describe('The least multiplier of a bid.'),
  })
  .describe('Multipliers of bids, so that budgets last the day.');

export const MarketConfigSchema = z
  .strictObject({
    market: z
      .string()
      .regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'expected at most 40 lower-case letters, digits and -')
      .describe('The name of the market.'),
    seeds: z
      .strictObject({
        first: z.int().min(0).max(1_000_000).default(1).describe('The first seed.'),
        count: z.int().min(2).max(SEEDS_MAX).default(10).describe('How many seeds follow it.'),
      })
      .prefault({})
      .describe('Seeds. Each is a world, a log, trained models and a market.'),
    world: WorldSchema.prefault({}),
    firstDay: z
      .int()
      .min(1)
      .max(LOG_DAYS - 1)
      .default(7)
      .describe(
        'The day of the log on which the market begins. Models learn from the days before.',
      ),
    days: z
      .int()
      .min(1)
      .max(LOG_DAYS - 1)
      .default(7)
      .describe('How long the market lasts.'),
    traffic: z
      .strictObject({
        auctionsPerDay: z.int().min(24).max(1_000_000).default(10_000).describe('Auctions a day.'),
        candidates: z
          .int()
          .min(2)
          .max(500)
          .default(30)
          .describe('Adgroups that match the user of an auction.'),
      })
      .prefault({})
      .describe('Auctions, the same ones for every arm.'),
    auction: z
      .strictObject({
        price: z
          .enum(['second', 'first'])
          .default('second')
          .describe(
            'What a click costs: the least bid that would have kept the place, or the bid itself.',
          ),
        reserve: z
          .number()
          .min(0)
          .max(1_000)
          .default(0.005)
          .describe('The least value of an impression, which is bid times probability.'),
      })
      .prefault({})
      .describe('One place is sold in each auction, and paid by the click.'),
    bids: z
      .strictObject({
        deviation: z
          .number()
          .min(0)
          .max(3)
          .default(0.4)
          .describe('Standard deviation of the logarithm of a bid. The median bid is 1.'),
      })
      .prefault({})
      .describe('What a click is worth to an adgroup.'),
    budgets: BudgetsSchema.prefault({}),
    pacing: PacingSchema.prefault({}),
    feedback: z
      .strictObject({
        clickDelaySeconds: z
          .number()
          .min(0)
          .max(86_400)
          .default(600)
          .describe('How long after its impression a click is reported.'),
      })
      .prefault({})
      .describe('When the market hears of clicks.'),
    refresh: z
      .strictObject({
        everyHours: z
          .int()
          .min(0)
          .max(LOG_DAYS * 24)
          .default(24)
          .describe('How often personal blocks adapt to the rows of the market; 0 for never.'),
        rowsMax: z
          .int()
          .min(1)
          .max(100_000)
          .default(500)
          .describe('The latest rows of an adgroup that its block adapts to.'),
      })
      .prefault({})
      .describe('Live adaptation in the arms of qianmo.'),
    exploration: ExplorationConfigSchema,
    goodAdgroups: z
      .strictObject({
        oracleImpressions: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(30)
          .describe('A new adgroup is good if the oracle shows it at least so often.'),
        wins: z
          .int()
          .min(1)
          .max(10_000)
          .default(5)
          .describe(
            'It is found when it has won, without exploration, so many auctions in which it was truly best.',
          ),
      })
      .prefault({})
      .describe('What a good new adgroup is, and when it is found.'),
    global: z
      .strictObject({
        adgroupCountMin: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(10)
          .describe('The global model has an embedding for each adgroup with so many rows.'),
      })
      .prefault({})
      .describe('The one model for all, which is trained on the same rows by the same loop.'),
    run: z
      .record(z.string(), z.json())
      .describe(
        'A run config without run, seed, output, logs and store, which the market fills in. It trains qianmo; the global model has its features, model and training too, except for what globalTraining says.',
      ),
    output: AddressSchema.describe('The folder of worlds, runs, results and the report.'),
  })
  .superRefine(({ firstDay, days, traffic, exploration, feedback, run, output }, context) => {
    const issue = (path: string[], message: string): void =>
      context.addIssue({ code: 'custom', path, message });
    for (const [section, name] of FILLED_IN) {
      const given = section === null ? run : run[section];
      if (typeof given === 'object' && given !== null && name in given)
        issue(['run', ...(section === null ? [] : [section]), name], 'the market fills this in');
    }
    if (feedback.clickDelaySeconds > exploration.feedback.windowSeconds)
      issue(
        ['feedback', 'clickDelaySeconds'],
        'must not exceed exploration.feedback.windowSeconds: every click would come too late',
      );
    if (firstDay + days > LOG_DAYS)
      issue(['days'], `firstDay + days must not exceed the ${LOG_DAYS} days of the world`);
    if (traffic.auctionsPerDay * days > AUCTIONS_MAX)
      issue(['traffic', 'auctionsPerDay'], `a market has at most ${AUCTIONS_MAX} auctions`);
    if (traffic.auctionsPerDay * days * traffic.candidates > 20 * AUCTIONS_MAX)
      issue(
        ['traffic', 'candidates'],
        'the candidates of all auctions must not exceed 100 million',
      );
    const livedDays = Math.min(days, exploration.feedback.eventLifetimeSeconds / SECONDS_PER_DAY);
    if (traffic.auctionsPerDay * livedDays > exploration.feedback.eventsMax)
      issue(
        ['exploration', 'feedback', 'eventsMax'],
        'must not be less than the auctions in eventLifetimeSeconds: evidence of the others would be refused',
      );
    if (exploration.mode !== 'active')
      issue(['exploration', 'mode'], 'must be active: the other arms do without');
    if (/^[a-z0-9]+:\/\//.test(output)) issue(['output'], 'must be a folder of this machine');
  });

export type MarketConfig = z.infer<typeof MarketConfigSchema>;

const MARKET: FileKind = {
  name: 'market config',
  examples: 'infra/examples/market.yaml is a commented one',
};

/** @throws QianmoError of kind `usage` that lists every fault with its path. */
export async function loadMarketConfig(path: string, read = readTextFile): Promise<MarketConfig> {
  return parseMarketConfig(await readConfigFile(path, MARKET, read), path);
}

export function parseMarketConfig(yaml: string, where: string): MarketConfig {
  return checkedMarketConfig(parseYaml(yaml, where, MARKET), where);
}

export function checkedMarketConfig(value: unknown, where: string): MarketConfig {
  return checkedConfig(MarketConfigSchema, value, where, MARKET);
}
