/** The market of the benches, and the two runs that are trained for each of its seeds. */

import { join } from 'node:path';
import {
  candidatesOf,
  commonTraining,
  type DataFacts,
} from '../../../coordinator/sweep/search-space.js';
import { at } from '../../../shared/base/arrays.js';
import { SEARCH_TRIALS_MAX } from '../../../shared/config/auto-config.js';
import { ExplorationConfigSchema } from '../../../shared/config/exploration-config.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { WorldOptions } from '../../../coordinator/synthesize/synthesis-options.js';

const RUN = {
  data: {
    task: 'adgroup',
    label: { column: 'click' },
    time: 'time',
    trunkRows: 'small-tasks',
    features: [
      { name: 'age', kind: 'category' },
      { name: 'gender', kind: 'category' },
      { name: 'city', kind: 'category' },
      { name: 'shopping', kind: 'category' },
      { name: 'occupation', kind: 'category' },
      { name: 'advertiser', kind: 'category', countMin: 20 },
      { name: 'category', kind: 'category' },
      { name: 'brand', kind: 'category', countMin: 20 },
      { name: 'price', kind: 'number', scale: 'log-standard' },
      { name: 'slot', kind: 'category' },
      { name: 'hour', kind: 'category' },
    ],
    rowSplit: {
      by: 'time',
      supportShare: 0.5,
      supportRowsMin: 2,
      queryRowsMin: 2,
      supportRowsMax: 500,
      queryRowsMax: 500,
    },
    taskSplit: { by: 'hash', validationShare: 0.1, testShare: 0.05 },
  },
  /** The global model has the settings that were best for it, on a world that is not among the seeds; qianmo has those of its search. */
  global: {
    model: {
      kind: 'deepfm',
      embeddingWidth: 8,
      hiddenWidths: [32, 16],
      personal: ['bias', 'output'],
    },
    method: { kind: 'global' },
    training: {
      outerSteps: 200,
      rowsPerOuterStep: 8_192,
      taskWeight: 'examples',
      optimizer: { kind: 'adam', rate: 0.01 },
      schedule: { warmupOuterSteps: 30, decay: 'cosine', finalShare: 0.05 },
      gradientNormMax: 5,
      weightDecay: 0.01,
      checkpointEveryOuterSteps: 200,
    },
  },
  evaluation: {
    arms: ['meta-unadapted', 'meta-adapted', 'meta-chosen'],
    sizeBucketEdges: [10, 30, 100],
  },
};

const WORLD: Omit<WorldOptions, 'seed'> = {
  ...{ setting: 'strong', clickRate: 0.1 },
  ...{ rows: 200_000, adgroups: 1_200, users: 8_000 },
};

export const MARKET = {
  /** Each seed has its own. */
  world: WORLD,
  /** The market begins on this day of the log. Models learn from the days before. */
  firstDay: 7,
  days: 7,
  auctionsPerDay: 10_000,
  /** Adgroups that match the user of an auction. */
  candidates: 30,
  /** The least value of an impression: bid times probability. */
  reserve: 0.005,
  /** Standard deviation of the logarithm of a bid. The median bid is 1. */
  bidDeviation: 0.4,
  /**
   * `pressure`: all budgets of a day, divided by the revenue of a day of the best choices. Budget and traffic of an adgroup grow
   * with its impressions to the power `sizeExponent`. Shares of the advertisers that are called small and large.
   */
  budgets: { pressure: 1.5, sizeExponent: 0.5, smallShare: 0.5, largeShare: 0.1 },
  /** A gain of 0 leaves every multiplier at 1. */
  pacing: { gain: 0.3, multiplierMin: 0.1 },
  clickDelaySeconds: 600,
  /** How often blocks adapt, 0 for never, and to how many rows of an adgroup. */
  refresh: { everyHours: 6, rowsMax: 200 },
  // Chosen on seeds 201 and 202, for the clicks of small advertisers.
  exploration: ExplorationConfigSchema.parse({
    mode: 'active',
    policy: 'thompson',
    share: { kind: 'fixed', share: 0.05 },
    classes: [{ name: 'small', share: { kind: 'fixed', share: 0.15 } }],
    cutOff: { impressions: 300, ageSeconds: 7 * 86_400 },
    priorImpressions: 100,
  }),
  /** A new adgroup is good if the oracle shows it this often, and found after so many deserved wins without exploration. */
  goodAdgroups: { oracleImpressions: 30, wins: 5 },
  /** The global model has an embedding for each adgroup with this many rows. */
  adgroupCountMin: 10,
  /** Sections of a run config that seeds complete. */
  run: RUN,
};
export type MarketSettings = Readonly<typeof MARKET>;

export type ModelName = 'qianmo' | 'global';

/** The log of the days before the market. */
export function logBeforeIn(folder: string): string {
  return join(folder, 'log.csv');
}

/** The run of qianmo, as the search has it once it has facts, or of one global model that knows adgroups by their ids. */
export function runConfigOf(
  { run: { data, evaluation, global }, adgroupCountMin }: MarketSettings,
  {
    name,
    seed,
    folder,
  }: { readonly name: ModelName; readonly seed: number; readonly folder: string },
  facts: DataFacts | null,
): RunConfig {
  const isGlobal = name === 'global';
  const ids = { name: 'adgroup', kind: 'category', countMin: adgroupCountMin };
  return RUN_CONFIG.check(
    {
      ...{ run: `market-${seed}-${name}`, seed, output: join(folder, name) },
      ...(isGlobal ? global : searchedSections(facts, evaluation)),
      data: {
        ...data,
        features: isGlobal ? [...data.features, ids] : data.features,
        ...{ logs: logBeforeIn(folder), store: join(folder, name, 'store') },
      },
    },
    'the market',
  );
}

function searchedSections(facts: DataFacts | null, evaluation: object): object {
  if (facts === null) return {};
  const found = candidatesOf(facts, SEARCH_TRIALS_MAX);
  const {
    model,
    method,
    training,
    length,
    evaluation: own,
  } = at(
    found.filter((candidate) => candidate.method['kind'] === 'posterior'),
    0,
  );
  return {
    ...{ model, method, training: { ...commonTraining(facts), ...length, ...training } },
    evaluation: { ...own, ...evaluation },
  };
}
