/** The candidates of a search: models, methods and training settings that have done well on logs of many kinds. Pure. */

/** The facts of the data that the search uses. */
export interface DataFacts {
  readonly trainTaskCount: number;
  /** Query rows of a training task, on average. */
  readonly queryRowsPerTask: number;
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
}

/** One value of each axis of the space. */
interface Point {
  readonly model: keyof typeof MODELS;
  /** Whether the click rate of the adgroup's support rows is an input. */
  readonly readsRate: boolean;
  readonly adapts: keyof typeof ADAPTING;
  readonly regularisation: keyof typeof REGULARISATION;
}

const MODELS = {
  deepfm: { kind: 'deepfm', embeddingWidth: 8, hiddenWidths: [32, 16], embeddingDeviation: 0.05 },
  'wide deepfm': {
    ...{ kind: 'deepfm', embeddingWidth: 16, hiddenWidths: [64, 32] },
    embeddingDeviation: 0.05,
  },
  /** Without weights of single values: what categories say comes from encodings across tasks, if there are some. */
  encodings: { kind: 'logistic', hiddenWidths: [] },
} as const;

const BLOCKS: readonly string[] = ['bias', 'adgroupEmbedding', 'output'];

const ADAPTING = {
  nothing: { personal: [], method: { kind: 'global' } },
  level: { personal: ['bias'], method: { kind: 'posterior', inputMeans: false } },
  blocks: { personal: BLOCKS, method: { kind: 'fomaml', innerSteps: 3, innerRate: 0.1 } },
  /** Blocks that an encoder of the support rows makes, which says more than their mean. Inner steps may follow at serving. */
  'generated blocks': {
    personal: BLOCKS,
    method: { kind: 'encoder', innerSteps: 0, linearWeights: false },
  },
} as const;

/** A linear model is convex, and its inputs are small numbers: it is far from its optimum at rates of deep ones. */
const RATES = { deepfm: 0.005, 'wide deepfm': 0.005, encodings: 0.05 } as const;

/** Settings that keep rare values and small data from being learned by heart. */
const REGULARISATION = {
  light: { weightDecay: 0.1 },
  dropout: { weightDecay: 0.1, dropout: 0.3, inputDropout: 0.3, idDropout: 0.1 },
  medium: { weightDecay: 0.3, dropout: 0.2, inputDropout: 0.2, idDropout: 0.1 },
  /** The training of a regression over encodings: it is convex, and trained to its one minimum, whatever validation says on the way. */
  ridge: {},
} as const;

/** Impressions that the penalty of a ridge regression counts as much as. */
const RIDGE_IMPRESSIONS = 20;

/** Those of other kinds first, so that a search of few trials has tried them. */
const CANDIDATES: readonly Point[] = [
  { model: 'wide deepfm', readsRate: true, adapts: 'nothing', regularisation: 'dropout' },
  { model: 'wide deepfm', readsRate: false, adapts: 'generated blocks', regularisation: 'dropout' },
  { model: 'encodings', readsRate: true, adapts: 'nothing', regularisation: 'ridge' },
  { model: 'deepfm', readsRate: true, adapts: 'nothing', regularisation: 'light' },
  { model: 'wide deepfm', readsRate: true, adapts: 'level', regularisation: 'dropout' },
  { model: 'deepfm', readsRate: false, adapts: 'blocks', regularisation: 'medium' },
];

/** At most `countMax` candidates. The same facts give the same ones. */
export function candidatesOf(facts: DataFacts, countMax: number): Candidate[] {
  return CANDIDATES.slice(0, countMax).map(({ model, readsRate, adapts, regularisation }) => {
    const { method } = ADAPTING[adapts];
    const personal: readonly string[] = ADAPTING[adapts].personal;
    const rate = RATES[model];
    return {
      words: {
        ...{ model, 'support inputs': readsRate ? 'rate' : 'none', adapts },
        ...{ rate: String(rate), regularisation },
      },
      model: {
        ...{ ...MODELS[model], personal: [...personal] },
        ...(personal.includes('adgroupEmbedding') ? { adgroupEmbedding: true } : {}),
        ...(readsRate ? { supportInputs: supportInputsOf(facts) } : {}),
      },
      method,
      training: {
        optimizer: { kind: 'adam', rate },
        ...REGULARISATION[regularisation],
        ...(regularisation === 'ridge'
          ? {
              ridge: RIDGE_IMPRESSIONS / Math.max(RIDGE_IMPRESSIONS, facts.impressions),
              earlyStopping: undefined,
            }
          : {}),
        // All but the tables, whose weights stay 0.
        ...(model === 'encodings' ? { trainable: ['bias', 'numbers'] } : {}),
      },
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

const OUTER_STEPS = { min: 200, max: 1000, multiple: 20 } as const;
/** Times that every training task is drawn, where the bounds on outer steps allow it. */
const PASSES = 10;
/**
 * Many small outer steps end at a lower loss than few large ones over the same rows. Where very many tasks train, outer
 * steps are larger, so that the largest number of them draws each task twice.
 */
const TASKS_PER_OUTER_STEP = { min: 8, usual: 16, max: 64 } as const;
const PASSES_MIN = 2;
const ROWS_PER_OUTER_STEP_MAX = 32_768;

/** The training section that all candidates have in common. */
export function commonTraining(facts: DataFacts): Record<string, unknown> {
  const { trainTaskCount, queryRowsPerTask, segment } = facts;
  const { min, usual, max } = TASKS_PER_OUTER_STEP;
  const forPasses = Math.ceil((PASSES_MIN * trainTaskCount) / OUTER_STEPS.max);
  const byRows = Math.floor(ROWS_PER_OUTER_STEP_MAX / Math.max(1, queryRowsPerTask));
  const drawn = Math.max(min, Math.min(usual, byRows), Math.min(max, forPasses, byRows));
  const tasksPerOuterStep = Math.min(Math.max(1, trainTaskCount), drawn);
  const wanted = (PASSES * trainTaskCount) / tasksPerOuterStep;
  const { min: least, max: most, multiple } = OUTER_STEPS;
  const outerSteps = Math.min(most, Math.max(least, Math.ceil(wanted / multiple) * multiple));
  return {
    ...{ outerSteps, tasksPerOuterStep },
    taskWeight: 'examples',
    schedule: { warmupOuterSteps: 20, decay: 'cosine', finalShare: 0.05 },
    gradientNormMax: 5,
    biasStart: 'click-rate',
    earlyStopping: {
      ...{ everyOuterSteps: outerSteps / multiple, patience: 5, tasksMax: 500 },
      ...(segment === null ? {} : { segment }),
    },
    checkpointEveryOuterSteps: outerSteps,
  };
}
