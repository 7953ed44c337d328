/** The candidates of a search: models, methods and training settings that have done well on logs of many kinds. Pure. */

import { SEARCH_TRIALS_MAX } from '../../shared/config/auto-config.js';

/** The facts of the data that the search uses. */
export interface DataFacts {
  readonly trainTaskCount: number;
  /** Support rows of a training task, on average. */
  readonly supportRowsPerTask: number;
  /** Query rows of a training task, on average. */
  readonly queryRowsPerTask: number;
  /** Support and query rows of training tasks, and trunk rows. */
  readonly trainRowCount: number;
  /** The scored impressions of the training tasks. */
  readonly impressions: number;
  /** Clicks per impression of the training tasks; null where labels are values. */
  readonly clickRate: number | null;
  /** The segment whose tasks score; null if the store has none. */
  readonly segment: string | null;
}

/** The sections of a run config that a candidate sets, and the same in words. */
interface Candidate {
  readonly words: Readonly<Record<string, string>>;
  readonly model: Readonly<Record<string, unknown>>;
  readonly method: Readonly<Record<string, unknown>>;
  readonly training: Readonly<Record<string, unknown>>;
  /** Its outer steps in place of those that all have in common; null for those. */
  readonly length: Readonly<Record<string, unknown>> | null;
  readonly evaluation: Readonly<Record<string, unknown>>;
}

/** One value of each axis of the space. */
interface Point {
  readonly model: keyof typeof MODELS;
  /** Whether the click rate of the adgroup's support rows is an input. */
  readonly readsRate: boolean;
  readonly adapts: keyof typeof ADAPTING;
  readonly regularisation: keyof typeof REGULARISATION;
}

const DEEPFM = { kind: 'deepfm', embeddingWidth: 16, embeddingDeviation: 0.05 };
const MODELS = {
  deepfm: { ...DEEPFM, hiddenWidths: [64, 32] },
  /** Its last layer has the features of posterior blocks. */
  'narrow deepfm': { ...DEEPFM, hiddenWidths: [64, 16] },
  /** Without weights of single values: what categories say comes from encodings across tasks, if there are some. */
  encodings: { kind: 'logistic', hiddenWidths: [] },
} as const;

const ADAPTING = {
  nothing: { personal: [], method: { kind: 'global' } },
  'posterior blocks': {
    personal: ['bias', 'output'],
    method: { kind: 'posterior', coldShare: 0.2 },
  },
} as const;

/**
 * From so many support rows on, adgroups also learn how much each field counts together with the others. Where they have
 * fewer, that brings nothing, and such a model has no mean with the other DeepFM.
 */
const LONG_SUPPORT_ROWS_MIN = 64;
/** Training on long tasks hardly shows what the mean of a few rows is worth. */
const LONG_MEAN_SHRINKAGE = 30;

/** A linear model is convex, and its inputs are small numbers: it is far from its optimum at rates of deep ones. */
const RATES = { deepfm: 0.005, 'narrow deepfm': 0.003, encodings: 0.05 } as const;

/** Settings that keep rare values and small data from being learned by heart. */
const REGULARISATION = {
  dropout: { weightDecay: 0.1, dropout: 0.3, inputDropout: 0.3, idDropout: 0.1 },
  /** Tasks that adapt on other rows in each epoch have less to learn by heart. */
  episodes: { weightDecay: 0.02, dropout: 0.2, inputDropout: 0.2 },
  /** The training of a regression over encodings: it is convex, and trained to its one minimum, whatever validation says on the way. */
  ridge: {},
} as const;

/** Impressions that the penalty of a ridge regression counts as much as. */
const RIDGE_IMPRESSIONS = 20;

const CANDIDATES: readonly Point[] = [
  { model: 'deepfm', readsRate: true, adapts: 'nothing', regularisation: 'dropout' },
  {
    model: 'narrow deepfm',
    readsRate: false,
    adapts: 'posterior blocks',
    regularisation: 'episodes',
  },
  { model: 'encodings', readsRate: true, adapts: 'nothing', regularisation: 'ridge' },
];

/** At most `countMax` candidates. The same facts give the same ones. */
export function candidatesOf(facts: DataFacts, countMax: number): Candidate[] {
  return CANDIDATES.slice(0, countMax).map(({ model, readsRate, adapts, regularisation }) => {
    const { personal, method } = ADAPTING[adapts];
    const rate = RATES[model];
    const isLong = adapts !== 'nothing' && facts.supportRowsPerTask >= LONG_SUPPORT_ROWS_MIN;
    return {
      words: {
        ...{ model, 'support inputs': readsRate ? 'rate' : 'none', adapts },
        ...{ rate: String(rate), regularisation },
      },
      model: {
        ...{ ...MODELS[model], personal: [...personal] },
        ...(isLong ? { interactions: 'by-field' } : {}),
        ...(readsRate ? { supportInputs: supportInputsOf(facts) } : {}),
      },
      method: isLong ? { ...method, meanShrinkage: LONG_MEAN_SHRINKAGE } : method,
      training: {
        optimizer: { kind: 'adam', rate },
        ...REGULARISATION[regularisation],
        ...(adapts === 'nothing' ? {} : EPISODES),
        ...(regularisation === 'ridge'
          ? {
              ridge: RIDGE_IMPRESSIONS / Math.max(RIDGE_IMPRESSIONS, facts.impressions),
              earlyStopping: undefined,
            }
          : {}),
        // All but the tables, whose weights stay 0.
        ...(model === 'encodings' ? { trainable: ['bias', 'numbers'] } : {}),
      },
      length: adapts === 'nothing' ? null : episodeSteps(facts),
      evaluation: adapts === 'nothing' ? {} : LEARNED_PRIOR,
    };
  });
}

const SMOOTHING_MIN = 10;
/** Prior clicks that the evidence is added to, where clicks are rare. */
const PRIOR_CLICKS = 2;

function supportInputsOf({ clickRate }: DataFacts): Record<string, unknown> {
  const inputs = { clickRate: true, count: true, targetEncodings: [] };
  if (clickRate === null) return { ...inputs, smoothing: SMOOTHING_MIN };
  const priorRate = Math.min(0.99, Math.max(0.001, Number(clickRate.toPrecision(3))));
  const smoothing = Math.max(SMOOTHING_MIN, Math.round(PRIOR_CLICKS / priorRate));
  return { ...inputs, priorRate, smoothing };
}

const OUTER_STEPS = { min: 200, max: 1000 } as const;
/** Times that every training task is drawn, where the bounds on outer steps allow it. */
const PASSES = 10;
/**
 * Many small outer steps end at a lower loss than few large ones over the same rows. Where very many tasks train, outer
 * steps are larger, so that the largest number of them draws each task twice.
 */
const TASKS_PER_OUTER_STEP = { min: 8, usual: 16, max: 64 } as const;
const PASSES_MIN = 2;
const ROWS_PER_OUTER_STEP_MAX = 32_768;

/** The cell of training: a factor of a learned prior that few adgroups choose costs more than it brings. */
const LEARNED_PRIOR = { innerRates: [0.1], innerSteps: [3] } as const;

/**
 * About sixteen episodes, which are small outer steps of one leaf, since a trial computes in one process. How many steps
 * a posterior needs differs by log, so its rate falls where the validation loss no longer does.
 */
const EPISODES = {
  ...{ rowsPerOuterStep: 1_024, taskWeight: 'examples', sampling: 'uniform' },
  leavesPerOuterStepMin: 1,
  schedule: { warmupOuterSteps: 20, decay: 'plateau', finalShare: 0.25 },
} as const;
const EPISODE_STEPS = { min: 1_200, max: 3_200, passes: 8, patience: 3 } as const;

/** A small log is learned by heart within a few passes, so its validation adgroups are scored at least once in each. */
function episodeSteps(facts: DataFacts): Record<string, unknown> {
  const outerSteps = episodeStepCount(facts);
  const pass = Math.ceil(facts.trainRowCount / EPISODES.rowsPerOuterStep);
  const everyOuterSteps = Math.min(outerSteps / SCORES, Math.max(1, pass));
  const patience = Math.round((EPISODE_STEPS.patience * outerSteps) / SCORES / everyOuterSteps);
  return { outerSteps, ...stoppingOf(outerSteps, facts.segment, { everyOuterSteps, patience }) };
}

function episodeStepCount({ trainRowCount }: Pick<DataFacts, 'trainRowCount'>): number {
  const { min, max, passes } = EPISODE_STEPS;
  const wanted = Math.ceil((passes * trainRowCount) / EPISODES.rowsPerOuterStep / SCORES) * SCORES;
  return Math.min(max, Math.max(min, wanted));
}

/** Scores of the validation adgroups in a training that does not stop early. */
const SCORES = 20;

function stoppingOf(
  outerSteps: number,
  segment: string | null,
  scores = { everyOuterSteps: outerSteps / SCORES, patience: 5 },
): Record<string, unknown> {
  return {
    earlyStopping: { ...scores, tasksMax: 500, ...(segment === null ? {} : { segment }) },
    checkpointEveryOuterSteps: outerSteps,
  };
}

/** The training section that all candidates have in common. */
export function commonTraining(facts: DataFacts): Record<string, unknown> {
  const { outerSteps, tasksPerOuterStep } = commonSteps(facts);
  return {
    ...{ outerSteps, tasksPerOuterStep },
    taskWeight: 'examples',
    schedule: { warmupOuterSteps: 20, decay: 'cosine', finalShare: 0.05 },
    gradientNormMax: 5,
    biasStart: 'click-rate',
    ...stoppingOf(outerSteps, facts.segment),
  };
}

type SizeFacts = Pick<DataFacts, 'trainTaskCount' | 'queryRowsPerTask'>;

function commonSteps({
  trainTaskCount,
  queryRowsPerTask,
}: SizeFacts): Record<'outerSteps' | 'tasksPerOuterStep', number> {
  const { min, usual, max } = TASKS_PER_OUTER_STEP;
  const forPasses = Math.ceil((PASSES_MIN * trainTaskCount) / OUTER_STEPS.max);
  const byRows = Math.floor(ROWS_PER_OUTER_STEP_MAX / Math.max(1, queryRowsPerTask));
  const drawn = Math.max(min, Math.min(usual, byRows), Math.min(max, forPasses, byRows));
  const tasksPerOuterStep = Math.min(Math.max(1, trainTaskCount), drawn);
  const wanted = (PASSES * trainTaskCount) / tasksPerOuterStep;
  const { min: least, max: most } = OUTER_STEPS;
  const outerSteps = Math.min(most, Math.max(least, Math.ceil(wanted / SCORES) * SCORES));
  return { outerSteps, tasksPerOuterStep };
}

/** Inputs of rows that a core trains on in a second, as measured on logs of 30,000 to 500,000 rows. */
const INPUTS_PER_SECOND = 250_000;
const SECONDS_BESIDE_TRAINING = 20;

interface SearchSize extends SizeFacts, Pick<DataFacts, 'trainRowCount'> {
  /** Features and encodings. */
  readonly inputCount: number;
}

/** Roughly how long a search and its evaluation take, to be told before they begin. */
export function searchSeconds(
  facts: SearchSize,
  { trialsMax = SEARCH_TRIALS_MAX, cores }: { readonly trialsMax?: number; readonly cores: number },
): number {
  const { outerSteps, tasksPerOuterStep } = commonSteps(facts);
  // Support and query rows.
  const rowsForAll = outerSteps * tasksPerOuterStep * 2 * facts.queryRowsPerTask;
  const ofEpisodes = episodeStepCount(facts) * EPISODES.rowsPerOuterStep;
  const trained = CANDIDATES.slice(0, trialsMax).map(({ adapts }) =>
    adapts === 'nothing' ? rowsForAll : ofEpisodes,
  );
  // The plain model that the others are compared with is one more for all.
  const rows = trained.reduce((sum, count) => sum + count, rowsForAll);
  return SECONDS_BESIDE_TRAINING + (rows * facts.inputCount) / INPUTS_PER_SECOND / cores;
}
