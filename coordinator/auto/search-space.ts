/**
 * The candidates of a search: models, methods and training settings that have done well on logs of many kinds, the safest
 * first, and then combinations of them drawn at random. Pure.
 */

import { randomStream, type RandomStream } from '../../shared/base/random.js';

/** The facts of the data that the search uses. */
export interface DataFacts {
  readonly categories: readonly { readonly name: string; readonly rowCount: number }[];
  readonly trainTaskCount: number;
  /** Those whose losses decide. */
  readonly validationTaskCount: number;
  /** Query rows of a training task, on average. */
  readonly queryRowsPerTask: number;
  /** The scored impressions of the training tasks. */
  readonly impressions: number;
  /** Clicks per impression of the training tasks; null where labels are values. */
  readonly clickRate: number | null;
  /** The segment whose tasks score; null if the store has none. */
  readonly segment: string | null;
  /** Whether the config says how adgroups are drawn, which holds for all trials. */
  readonly areDrawsGiven?: boolean;
}

/** The fields of a config that say how adgroups are drawn, and contradict rows that are. */
export const DRAWING_FIELDS = ['sampling', 'taskWeight', 'tasksPerOuterStep'] as const;

/** The sections of a run config that a candidate sets, and the same in words. */
export interface Candidate {
  readonly words: Readonly<Record<string, string>>;
  readonly model: Readonly<Record<string, unknown>>;
  readonly method: Readonly<Record<string, unknown>>;
  readonly training: Readonly<Record<string, unknown>>;
}

/** One value of each axis of the space. */
interface Point {
  readonly model: keyof typeof MODELS;
  readonly inputs: (typeof INPUTS)[number];
  readonly adapts: keyof typeof ADAPTING;
  readonly rate: number;
  readonly regularisation: keyof typeof REGULARISATION;
  /** Whether an outer step draws rows; absent where it draws adgroups, unless few adgroups train. */
  readonly drawsRows?: true;
}

const MODELS = {
  deepfm: {
    kind: 'deepfm',
    embeddingWidth: 8,
    hiddenWidths: [32, 16],
    embeddingDeviation: 0.05,
  },
  'wide deepfm': {
    kind: 'deepfm',
    embeddingWidth: 16,
    hiddenWidths: [64, 32],
    embeddingDeviation: 0.05,
  },
  'dcn-v2': {
    kind: 'dcn-v2',
    embeddingWidth: 8,
    hiddenWidths: [32, 16],
    embeddingDeviation: 0.05,
  },
  logistic: { kind: 'logistic', hiddenWidths: [] },
  /** Without weights of single values: what categories say comes from encodings across tasks, if there are some. */
  encodings: { kind: 'logistic', hiddenWidths: [] },
} as const;

/** Inputs that say what the support rows of the adgroup have shown. */
const INPUTS = ['none', 'rate', 'rate and values'] as const;

const EMBEDDING = 'adgroupEmbedding';
const BLOCKS: readonly string[] = ['bias', EMBEDDING, 'output'];

const ADAPTING = {
  nothing: { personal: [], method: () => ({ kind: 'global' }) },
  level: { personal: [], method: () => ({ kind: 'maml', innerSteps: 1, levelShift: true }) },
  /** A trunk that is trained nearly as if nothing adapted, as a shift that is fitted afterwards finds it. */
  'level of a global model': {
    personal: [],
    method: () => ({ kind: 'maml', innerSteps: 1, levelShift: true, coldShare: 0.9 }),
  },
  'level and values': {
    personal: [],
    method: (features: readonly string[]) => ({
      ...{ kind: 'maml', innerSteps: 1 },
      levelShift: features.length === 0 ? true : { features },
    }),
  },
  blocks: {
    personal: BLOCKS,
    method: () => ({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1 }),
  },
  /** Blocks that an encoder of the support rows makes, which says more than their mean. Inner steps may follow at serving. */
  'generated blocks': {
    personal: BLOCKS,
    method: () => ({ kind: 'encoder', innerSteps: 0, linearWeights: false }),
  },
} as const;

/** A linear model is convex, and its inputs are small numbers: it is far from its optimum at rates of deep ones. */
const RATES = { deep: [0.002, 0.005, 0.01], linear: [0.01, 0.02, 0.05] } as const;
const FIRST_RATES = {
  ...{ deepfm: 0.005, 'wide deepfm': 0.005, 'dcn-v2': 0.005 },
  ...{ logistic: 0.01, encodings: 0.05 },
} as const;

/** Settings that keep rare values and small data from being learned by heart. */
const REGULARISATION = {
  light: { weightDecay: 0.1 },
  dropout: { weightDecay: 0.1, dropout: 0.3, inputDropout: 0.3, idDropout: 0.1 },
  medium: { weightDecay: 0.3, dropout: 0.2, inputDropout: 0.2, idDropout: 0.1 },
  strong: {
    ...{ weightDecay: 1, tableWeightDecay: 3 },
    ...{ dropout: 0.2, inputDropout: 0.2, idDropout: 0.1 },
  },
  /** The training of a regression over encodings: it is convex, and trained to its one minimum, whatever validation says on the way. */
  ridge: { ridgeImpressions: 20 },
} as const;

/** The safest first: a search that ends early has tried those of other kinds. */
const FIRST: readonly Point[] = [
  point('wide deepfm', 'rate', 'nothing', 'dropout'),
  point('wide deepfm', 'none', 'generated blocks', 'dropout'),
  point('encodings', 'rate', 'nothing', 'ridge'),
  point('deepfm', 'rate', 'nothing', 'light'),
  // Values that few rows have are learned by heart in few steps at a higher rate.
  { ...point('wide deepfm', 'rate', 'nothing', 'dropout'), rate: 0.002, drawsRows: true },
  point('encodings', 'rate', 'nothing', 'light'),
  point('wide deepfm', 'rate', 'level', 'dropout'),
  point('deepfm', 'none', 'level', 'medium'),
  point('deepfm', 'none', 'blocks', 'medium'),
  point('deepfm', 'rate', 'nothing', 'medium'),
  point('deepfm', 'none', 'level of a global model', 'medium'),
  point('logistic', 'rate and values', 'nothing', 'light'),
  point('deepfm', 'rate and values', 'nothing', 'strong'),
  point('logistic', 'none', 'level and values', 'light'),
  point('deepfm', 'rate', 'blocks', 'light'),
  point('deepfm', 'none', 'nothing', 'medium'),
];

function point(
  model: Point['model'],
  inputs: Point['inputs'],
  adapts: Point['adapts'],
  regularisation: Point['regularisation'],
): Point {
  return { model, inputs, adapts, rate: FIRST_RATES[model], regularisation };
}

function isLinear(model: Point['model']): boolean {
  return MODELS[model].kind === 'logistic';
}

/** Draws of points that were had before, until the space is taken as exhausted. */
const REPEATED_DRAWS_MAX = 200;

/** At most `countMax` candidates, all different. The same seed and facts give the same ones. */
export function candidatesOf(facts: DataFacts, countMax: number, seed: number): Candidate[] {
  const random = randomStream(seed, 'points of the search');
  const found = new Map<string, Candidate>();
  const add = (point: Point): void => {
    const candidate = candidateOf(point, facts);
    const key = JSON.stringify([candidate.model, candidate.method, candidate.training]);
    if (!found.has(key)) found.set(key, candidate);
  };
  for (const point of firstPoints(facts)) if (found.size < countMax) add(point);
  for (let repeated = 0; found.size < countMax && repeated < REPEATED_DRAWS_MAX;) {
    const before = found.size;
    add(drawnPoint(random));
    repeated = found.size === before ? repeated + 1 : 0;
  }
  return [...found.values()];
}

/** Fewer teach a network little and an encoder nothing, and the regression over encodings takes less than half of their time. */
const TRAIN_TASKS_OF_NETWORKS_MIN = 100;

function firstPoints({ trainTaskCount }: DataFacts): readonly Point[] {
  if (trainTaskCount >= TRAIN_TASKS_OF_NETWORKS_MIN) return FIRST;
  const isOfEncodings = ({ model }: Point): boolean => model === 'encodings';
  const isGenerated = ({ adapts }: Point): boolean => adapts === 'generated blocks';
  const others = FIRST.filter((point) => !isOfEncodings(point) && !isGenerated(point));
  return [...FIRST.filter(isOfEncodings), ...others];
}

const DRAWN_MODELS = ['wide deepfm', 'deepfm', 'dcn-v2', 'logistic', 'encodings'] as const;

function drawnPoint(random: RandomStream): Point {
  const model = oneOf(random, DRAWN_MODELS);
  return {
    model,
    // Encodings alone need numbers, and data may have none.
    inputs: oneOf(random, model === 'encodings' ? INPUTS.slice(1) : INPUTS),
    adapts: oneOf(
      random,
      isLinear(model)
        ? (['nothing', 'level', 'level and values'] as const)
        : (['nothing', 'level', 'level of a global model', 'level and values', 'blocks'] as const),
    ),
    rate: oneOf(random, isLinear(model) ? RATES.linear : RATES.deep),
    regularisation: oneOf(
      random,
      model === 'encodings'
        ? (['light', 'ridge'] as const)
        : (['light', 'dropout', 'medium', 'strong'] as const),
    ),
  };
}

function oneOf<Value>(random: RandomStream, values: readonly Value[]): Value {
  const value = values[random.below(values.length)];
  if (value === undefined) throw new Error('an axis has no values');
  return value;
}

function candidateOf(point: Point, facts: DataFacts): Candidate {
  const { model, inputs, adapts, rate, regularisation } = point;
  const features = narrowCategories(facts);
  const { method: methodWith } = ADAPTING[adapts];
  const personal: readonly string[] = ADAPTING[adapts].personal;
  const method = methodWith(features);
  const drawn = drawsRows(point, facts);
  return {
    words: {
      ...{ model, 'support inputs': inputs, adapts },
      ...{ rate: String(rate), regularisation, draws: drawn ? 'rows' : 'adgroups' },
    },
    model: {
      ...MODELS[model],
      personal: [...personal],
      ...(personal.includes(EMBEDDING) ? { adgroupEmbedding: true } : {}),
      ...(inputs === 'none' ? {} : { supportInputs: supportInputsOf(inputs, features, facts) }),
    },
    method,
    training: {
      optimizer: { kind: 'adam', rate },
      ...regularised(point, facts),
      ...(drawn ? { rowsPerOuterStep: ROWS_DRAWN } : {}),
      ...(model === 'encodings' ? { trainable: trainedBeside(method) } : {}),
    },
  };
}

/**
 * Rows are drawn one by one where outer steps would take all adgroups, which teaches a network little in as many steps. A
 * regression is convex, and ends where it does.
 */
function drawsRows({ model, adapts, drawsRows: isSaid }: Point, facts: DataFacts): boolean {
  if (isLinear(model) || adapts !== 'nothing' || facts.areDrawsGiven === true) return false;
  return isSaid === true || facts.trainTaskCount < TRAIN_TASKS_OF_NETWORKS_MIN;
}

/** Linear models have no hidden units to drop, and one of encodings alone reads no ids. */
function regularised(
  { model, regularisation }: Point,
  { impressions }: DataFacts,
): Record<string, number | undefined> {
  const settings: Partial<Record<string, number>> = REGULARISATION[regularisation];
  const { ridgeImpressions } = settings;
  if (ridgeImpressions !== undefined)
    return {
      ridge: ridgeImpressions / Math.max(ridgeImpressions, impressions),
      earlyStopping: undefined,
    };
  if (!isLinear(model)) return settings;
  const { weightDecay, tableWeightDecay, idDropout } = settings;
  return model === 'encodings' ? { weightDecay } : { weightDecay, tableWeightDecay, idDropout };
}

/** All but the tables, whose weights stay 0. */
function trainedBeside({ kind }: { readonly kind: string }): string[] {
  return ['bias', 'numbers', ...(kind === 'global' ? [] : [kind])];
}

const NARROW_ROWS_MAX = 200;
const NARROW_CATEGORIES_MAX = 4;

/**
 * Categories with few values: the support rows of one adgroup have several rows of a value. Those with most values first,
 * which say most.
 */
function narrowCategories({ categories }: DataFacts): string[] {
  return categories
    .filter(({ rowCount }) => rowCount > 2 && rowCount <= NARROW_ROWS_MAX)
    .sort((a, b) => b.rowCount - a.rowCount)
    .slice(0, NARROW_CATEGORIES_MAX)
    .map(({ name }) => name);
}

const SMOOTHING_MIN = 10;
/** Prior clicks that the evidence is added to, where clicks are rare. */
const PRIOR_CLICKS = 2;

function supportInputsOf(
  inputs: 'rate' | 'rate and values',
  features: readonly string[],
  { clickRate }: DataFacts,
): Record<string, unknown> {
  const named = {
    ...{ clickRate: true, count: true },
    targetEncodings: inputs === 'rate' ? [] : features,
  };
  if (clickRate === null) return { ...named, smoothing: SMOOTHING_MIN };
  const priorRate = Math.min(0.99, Math.max(0.001, Number(clickRate.toPrecision(3))));
  const smoothing = Math.max(SMOOTHING_MIN, Math.round(PRIOR_CLICKS / priorRate));
  return { ...named, priorRate, smoothing };
}

const OUTER_STEPS = { min: 200, max: 1000, multiple: 20 } as const;
/** Times that every training task is drawn, where the bounds on outer steps allow it. */
const PASSES = 10;
/**
 * Many small outer steps end at a lower loss than few large ones over the same rows. Where few tasks train, every outer step
 * takes all of them, as suits regressions. Where very many do, outer steps are larger, so that the largest number of
 * them draws each task twice.
 */
const TASKS_PER_OUTER_STEP = { min: 8, usual: 16, max: 64 } as const;
const PASSES_MIN = 2;
/** The rows of an outer step where rows are drawn one by one. */
const ROWS_DRAWN = 768;
const ROWS_PER_OUTER_STEP_MAX = 32_768;

/** The training section that all candidates have in common. */
export function commonTraining(facts: DataFacts): Record<string, unknown> {
  const { trainTaskCount, segment } = facts;
  const tasksPerOuterStep = tasksPerOuterStepOf(facts);
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

function tasksPerOuterStepOf({ trainTaskCount, queryRowsPerTask }: DataFacts): number {
  const { min, usual, max } = TASKS_PER_OUTER_STEP;
  const forPasses = Math.ceil((PASSES_MIN * trainTaskCount) / OUTER_STEPS.max);
  const wanted =
    trainTaskCount < TRAIN_TASKS_OF_NETWORKS_MIN ? max : Math.max(usual, Math.min(max, forPasses));
  const byRows = Math.floor(ROWS_PER_OUTER_STEP_MAX / Math.max(1, queryRowsPerTask));
  return Math.min(Math.max(1, trainTaskCount), Math.max(min, Math.min(wanted, byRows)));
}
