/** The synthetic log that most cases share, and a small run on it with several jobs per outer step. */

/** Options of `qianmo synthesize`. */
export const WORLD_LOG = [
  ...['--rows', '6000', '--adgroups', '200', '--users', '300'],
  ...['--click-rate', '0.2', '--seed', '7'],
];

/** Sections of a run config. */
export interface RunDepartures {
  readonly data?: object;
  readonly model?: object;
  readonly method?: object;
  readonly training?: object;
  readonly evaluation?: object;
  readonly queue?: object;
}

/** `advertiser`, `category`, `brand` and `price` are the same in all rows of an adgroup. */
const DATA = {
  logs: 'world.csv',
  store: 'stores/world',
  task: 'adgroup',
  label: { column: 'click' },
  time: 'time',
  features: [
    { name: 'user', kind: 'category', hashBuckets: 500 },
    { name: 'age', kind: 'category' },
    { name: 'city', kind: 'category' },
    { name: 'adgroup', kind: 'category' },
    { name: 'advertiser', kind: 'category', countMin: 20 },
    { name: 'category', kind: 'category' },
    { name: 'brand', kind: 'category', countMin: 20 },
    { name: 'price', kind: 'number', scale: 'log-standard' },
    { name: 'campaign', kind: 'number' },
    { name: 'hour', kind: 'number', scale: 'log-bucket' },
    { name: 'digits', kind: 'bag', column: 'price', separator: '.' },
  ],
  rowSplit: {
    ...{ by: 'time', supportShare: 0.5, supportRowsMin: 2, queryRowsMin: 2 },
    ...{ supportRowsMax: 32, queryRowsMax: 32 },
  },
  taskSplit: { by: 'hash', validationShare: 0.15, testShare: 0.2 },
};

const MODEL = {
  embeddingWidth: 4,
  hiddenWidths: [8],
  adgroupEmbedding: true,
  personal: ['bias', 'adgroupEmbedding', 'output'],
};

/** Each outer step has two jobs of several micro-batches. */
const TRAINING = {
  ...{ outerSteps: 4, tasksPerOuterStep: 16, leavesPerOuterStepMin: 4, microBatchRowsMax: 128 },
  taskWeight: 'examples',
  optimizer: { kind: 'adam', rate: 0.02 },
  schedule: { warmupOuterSteps: 1, decay: 'cosine', finalShare: 0.1 },
  weightDecay: 0.1,
};

const EVALUATION = {
  arms: ['meta-unadapted', 'meta-adapted', 'meta-chosen'],
  ...{ innerRates: [0.1, 0.5], innerSteps: [1, 3], sizeBucketEdges: [10], bootstrapSamples: 100 },
};

/** An override replaces single fields of a section, but `method` as a whole. */
export function worldRun(name: string, departures: RunDepartures = {}): object {
  return {
    run: name,
    seed: 7,
    data: { ...DATA, ...departures.data },
    model: { ...MODEL, ...departures.model },
    method: departures.method ?? { kind: 'fomaml', innerSteps: 2, innerRate: 0.3 },
    training: { ...TRAINING, ...departures.training },
    evaluation: { ...EVALUATION, ...departures.evaluation },
    queue: { prefix: `{${name}}`, ...departures.queue },
    output: name,
  };
}
