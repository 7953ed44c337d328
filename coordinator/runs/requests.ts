/**
 * The requests of all calls that a coordinator carries out, checked once where they enter. A misspelt field is an error.
 * The options of the command line and the reference are made from them.
 */

import { z } from 'zod';
import { errorOf } from '../../shared/base/errors.js';
import { AutoTrialsMaxSchema } from '../../shared/config/auto-config.js';
import { describeIssues } from '../../shared/config/config-issues.js';
import { DeviceDemandSchema } from '../../shared/config/compute-config.js';
import type { ExplorationConfigSchema } from '../../shared/config/exploration-config.js';
import type { RunConfigSchema } from '../../shared/config/run-config.js';
import type { SweepConfigSchema } from '../../shared/config/sweep-config.js';
import { LATEST_LABEL } from '../../shared/bundle/bundle-store.js';
import { BLOCK_ENCODINGS } from '../../shared/bundle/ranking-model.js';
import { parseRowCount, ROW_COUNT_MAX, WORLD_SETTINGS } from '../synthesize/synthesis-options.js';
import { decimal, describeField, flag, integer, oneOf, text, texts } from './request-fields.js';

const WORKERS_MAX = 256;
/** The queue prefix of a config that names none. */
export const QUEUE_PREFIX_DEFAULT = '{qianmo}';

/**
 * A config: the path of a YAML file (also `file://PATH` or `s3://BUCKET/KEY`), or the same fields as
 * an object. Relative paths in it are seen from the current folder of the process.
 */
export type RunConfigSource = string | z.input<typeof RunConfigSchema>;
export type SweepConfigSource = string | z.input<typeof SweepConfigSchema>;
/** A run config, or its section `exploration` alone. */
export type PolicySource =
  RunConfigSource | { readonly exploration: z.input<typeof ExplorationConfigSchema> };

function configSource<Source>(description: string): z.ZodType<Source, Source> {
  const source = z.custom<Source>(
    (value) =>
      (typeof value === 'string' && value !== '') ||
      (typeof value === 'object' && value !== null && !Array.isArray(value)),
    'expected the path of a YAML file, or an object',
  );
  return describeField(source, description);
}

const config = configSource<RunConfigSource>('<run.yaml> the run config');

const REDIS = { variable: 'QIANMO_REDIS_URL' };

/**
 * Selects what computes the jobs. By default, processes of this machine without a queue, as many as pay off. With
 * `redis`, or a Redis server in the config, workers that serve a queue there.
 */
const dispatchFields = {
  processes: integer(
    1,
    WORKERS_MAX,
    '<count> compute in this many processes here, without a queue; as many as pay off by default',
  ).optional(),
  redis: text(
    '<url> send jobs to the workers of a queue on this Redis server, or on one started for it (embedded), instead of computing here',
    REDIS,
  ).optional(),
  workers: integer(
    1,
    WORKERS_MAX,
    '<count> to try the queue: start this many workers here, on a Redis server of their own unless one is named',
    { conflicts: 'processes' },
  ).optional(),
};

const ONE_WAY_TO_START = { error: 'cannot be given with resume', path: ['fresh'] };

interface Starting {
  readonly resume: boolean;
  readonly fresh: boolean;
}
const startsOneWay = ({ resume, fresh }: Starting): boolean => !resume || !fresh;

const trainingFields = {
  resume: flag('continue from the latest checkpoint'),
  fresh: flag('start again although checkpoints of this run exist', { conflicts: 'resume' }),
};

const evaluationFields = {
  predictions: text('<file> write per-row predictions of every arm as Parquet').optional(),
  fresh: flag('train the global arm again'),
};

const exportedFields = {
  config,
  ...dispatchFields,
  out: text('<address> folder or s3:// prefix of bundles; default: in the output').optional(),
  label: text('<name> the label that is moved to the bundle').default(LATEST_LABEL),
};

const logs = '<path> the new logs: a file, a folder, a glob or an s3:// address';

const refreshFields = {
  ...exportedFields,
  logs: describeField(z.union([text(logs), texts(logs)]), logs),
  outerSteps: integer(1, 1_000_000, '<count> outer steps to train on the new rows').optional(),
};

const SECONDS_PER_DAY = 86_400;

/** Options of a refresh that goes on. */
export const FOLLOW_FIELDS = {
  intervalSeconds: decimal(
    { above: 0, upTo: SECONDS_PER_DAY },
    '<seconds> with --follow, time from one look at the row log to the next',
  ).default(60),
  judgeRows: integer(
    1,
    1_000_000_000,
    '<count> with --follow, rows that a bundle is judged on at least',
  ).default(1_000),
  trunkSeconds: decimal(
    { from: 0, upTo: 31 * SECONDS_PER_DAY },
    '<seconds> with --follow and --outer-steps, age of the trunk at which it is trained further',
  ).default(300),
};

const bundles = text('<address> the address of bundles: a folder or s3:// prefix');
const bundle = text('<address> ADDRESS of bundles or ADDRESS@LABEL; latest unless one is given');

const labelFields = { bundles, label: text('<label> the label that is moved') };

const searchFields = {
  resume: flag('continue the search that exists'),
  fresh: flag('start again although a search exists', { conflicts: 'resume' }),
};

/** A number, or text such as `760k` or `10M`. */
function rowCount(
  description: string,
  largest = ROW_COUNT_MAX,
): z.ZodType<number, number | string> {
  const field = z.union([z.number(), z.string()]).transform((value, context) => {
    const rows = parseRowCount(String(value));
    if (rows !== null && rows <= largest) return rows;
    const message = `expected a whole number from 1 to ${largest}, as in 250, 760k or 10M`;
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
  return describeField(field, description);
}

/** Ids are written with at most seven digits. */
const ID_COUNT_MAX = 10_000_000;

export const DEVICE = describeField(
  DeviceDemandSchema,
  '<device> device to compute on: gpu or cpu; auto takes a GPU if there is one',
);

const column = (meaning: string): z.ZodString => text(`<column> column of ${meaning}`);

const queueFields = {
  redis: text('<url> the Redis server of the queue', REDIS),
  prefix: text('<prefix> the queue prefix of the config').default(QUEUE_PREFIX_DEFAULT),
};

const recordedRun = text("<run> a run's output folder or s3:// prefix, or its run.yaml");

/** `/metrics` is added to an address without a path. */
const metricsAddress = z
  .url({ protocol: /^https?$/, error: 'expected an address such as http://127.0.0.1:9464' })
  .transform((address) => {
    const url = new URL(address);
    if (url.pathname === '/') url.pathname = '/metrics';
    return url.href;
  });

const rankingAddress = z.url({
  protocol: /^https?$/,
  error: 'expected an address such as http://127.0.0.1:8080',
});

export const HOST = text(
  '<host> the address to listen on; one beyond this machine demands a token',
).default('127.0.0.1');
export const PORT = integer(0, 65_535, '<port> port, 0 for any free one');

/** The request of each call, by the name of its work. */
export const REQUESTS = {
  init: z.strictObject({
    logs: texts(
      '<file> logs: CSV, TSV, JSON lines or Parquet; files, globs, s3://; or the row log of a server',
    ).optional(),
    sql: text('<query> a query whose rows are the log; DuckDB runs it').optional(),
    task: text('<column> the column, or SQL, that names the adgroup').optional(),
    label: text('<column> the column, or a condition, that says what was clicked').optional(),
    time: text('<column> the column, or SQL, that orders the rows').optional(),
    name: text('<name> the name of the run; by default that of the log').optional(),
    out: text('<run.yaml> the config to write').default('run.yaml'),
    force: flag('replace a config that is there'),
  }),
  prepare: z.strictObject({
    config,
    force: flag('prepare again even if the store was made from the same logs and config'),
  }),
  forget: z.strictObject({
    config,
    adgroup: text('<id> the adgroup whose rows are forgotten').optional(),
    value: describeField(
      z.string().regex(/^[^=]+=.+$/s, 'expected COLUMN=VALUE'),
      '<column=value> forget the rows with this text in this column, as user=u7',
      { conflicts: 'adgroup' },
    ).optional(),
    logs: texts('<paths> further logs that are written again, as those of refresh').optional(),
    also: texts(
      '<places> folders and s3:// prefixes to look through, too: bundles, state of servers, predictions',
    ).default([]),
    dryRun: flag('say what would be changed, and change nothing'),
  }),
  trainingStart: z.strictObject(trainingFields).refine(startsOneWay, ONE_WAY_TO_START),
  train: z
    .strictObject({
      config,
      ...dispatchFields,
      ...trainingFields,
      dashboard: flag('serve the queue board while training'),
    })
    .refine(startsOneWay, ONE_WAY_TO_START),
  evaluationChoice: z.strictObject(evaluationFields),
  evaluate: z.strictObject({
    config,
    ...dispatchFields,
    ...evaluationFields,
  }),
  export: z.strictObject({
    ...exportedFields,
    encoding: oneOf(BLOCK_ENCODINGS, '<encoding> how personal blocks are stored').default(
      'float32',
    ),
    rows: oneOf(['support', 'all'], '<rows> rows that adgroups adapt on').default('support'),
  }),
  /** The label names the bundle that is changed, and is moved to the new one. */
  refresh: z.strictObject(refreshFields),
  follow: z.strictObject({ ...refreshFields, ...FOLLOW_FIELDS }),
  /** Bundles under one address. */
  bundles: z.strictObject({ bundles }),
  /** One bundle: `@` and a label or digest follow the address unless `latest` is meant. */
  bundle: z.strictObject({ bundles: bundle }),
  prune: z.strictObject({
    bundles,
    keep: integer(0, 100, '<count> earlier bundles of each label that are kept').default(3),
    graceHours: decimal({ from: 0, upTo: 24 * 365 }, '<hours> keep what is newer').default(24),
    dryRun: flag('say what would be removed, and remove nothing'),
  }),
  label: z.strictObject({
    ...labelFields,
    bundle: text('<bundle> another label, or the digest of a bundle or its beginning'),
    share: decimal(
      { from: 0, upTo: 1 },
      '<share> fraction of requests while it is a canary; default: that of the server',
    ).optional(),
  }),
  rollback: z.strictObject(labelFields),
  open: z.strictObject({ config, ...dispatchFields }),
  compare: z.strictObject({
    runs: describeField(
      z.array(z.string().min(1, 'expected a value')),
      "<run> two or more: a run's output folder or s3:// prefix, or its run.yaml; RUN:ARM names an arm",
    ),
    out: text('<folder> folder or s3:// prefix for comparison.html and comparison.json').optional(),
    sizeBucketEdges: describeField(
      z.array(integer(1, Infinity)),
      '<edges> upper edges of the size buckets in support rows, as 10,100; by default those of the first run',
      { option: 'buckets' },
    ).optional(),
    segment: text('<name> the segment to compare, of runs whose tasks have segments').optional(),
  }),
  sweep: z
    .strictObject({
      config: configSource<SweepConfigSource>(
        '<sweep.yaml> the sweep config, which names the run config that the trials vary',
      ),
      ...dispatchFields,
      ...searchFields,
    })
    .refine(startsOneWay, ONE_WAY_TO_START),
  auto: z
    .strictObject({
      config,
      ...dispatchFields,
      ...searchFields,
      trialsMax: describeField(
        AutoTrialsMaxSchema,
        '<count> how many trials to begin at most, in place of auto.trialsMax',
      ).optional(),
    })
    .refine(startsOneWay, ONE_WAY_TO_START),
  synthesize: z.strictObject({
    out: text('<file> file to write; its name ends in .csv, .csv.gz or .parquet'),
    rows: rowCount('<count> impressions, as 760000, 760k or 10M').prefault('1M'),
    setting: oneOf(WORLD_SETTINGS, '<name> how far adgroups deviate').default('strong'),
    clickRate: decimal({ from: 0.0001, upTo: 0.9999 }, '<rate> mean click rate').default(0.03),
    seed: integer(0, Infinity, '<seed> the same seed gives the same bytes').default(1),
    adgroups: rowCount(
      '<count> number of adgroups; by default in proportion to the rows',
      ID_COUNT_MAX,
    ).optional(),
    users: rowCount(
      '<count> number of users; by default in proportion to the rows',
      ID_COUNT_MAX,
    ).optional(),
    crowds: rowCount(
      '<count> number of crowds of users, as a further column; none by default',
      ID_COUNT_MAX,
    ).optional(),
    crowdDeviation: decimal({ from: 0, upTo: 10 }, '<logits> how far crowds deviate').default(0.5),
  }),
  check: z.strictObject({
    config: configSource<RunConfigSource>(
      '<run.yaml> the run config, to check its logs or store, queue and output too',
    ).optional(),
    redis: text('<url> the Redis server, instead of the one in the config', REDIS).optional(),
    device: DEVICE.default('auto'),
  }),
  ope: z.strictObject({
    logs: texts(
      '<log> row logs: addresses, or files of them (.ndjson, .ndjson.gz); or tables of choices (.csv, .tsv, .parquet)',
    ),
    policy: configSource<PolicySource>(
      '<policy.yaml> a run config, or a file of serve --explore: its section exploration is the target policy of a row log; by default the policy that logged',
    ).optional(),
    columns: z
      .strictObject({
        reward: column('the reward').default('reward'),
        propensity: column('the probability of the choice under the policy that logged').default(
          'propensity',
        ),
        target: column('the probability of the choice under the target policy').default('target'),
        estimate: column(
          'the reward that a model expects of the choice, for the doubly robust estimators',
        ).optional(),
        targetEstimate: column(
          "the reward that the model expects of the target policy's choice",
        ).optional(),
        decision: column(
          'the name of the decision: its rows are drawn together; by default each row is one',
        ).optional(),
      })
      .refine(
        ({ estimate, targetEstimate }) =>
          (estimate === undefined) === (targetEstimate === undefined),
        {
          error: 'estimate and targetEstimate are given together',
          path: ['targetEstimate'],
        },
      )
      .prefault({}),
    switchWeight: decimal({ above: 0 }, '<weight> largest weight that switch-DR uses').default(10),
    samples: integer(100, 100_000, '<count> bootstrap samples').default(2_000),
    confidence: decimal({ above: 0.5, below: 1 }, '<share> confidence level').default(0.95),
    seed: integer(0, Infinity, '<seed> decides the bootstrap').default(0),
  }),
  experiment: z.strictObject({
    logs: texts('<log> row logs of servers, or logs of any format that `prepare` reads'),
    columns: z.strictObject({
      unit: column('what was drawn, such as the user: it must see one arm only'),
      arm: column('the arm; by default the bundle that served a row').optional(),
      outcome: column('the outcome; by default the click, or reward, of a row log').optional(),
      impressions: column(
        'impressions, if a row is several; by default each row is one',
      ).optional(),
      segment: column('the segment, to compare within each').optional(),
      time: column('the time, for --from; by default when a row was served').optional(),
    }),
    arms: texts(
      '<arm> the arms to compare, the control first, with commas between them; by default all, the control being the largest. The start of a name is enough',
    ).optional(),
    from: text(
      '<time> when the test began, as 2026-12-01T08:00Z or in seconds since 1970; what units did before makes intervals narrower',
    ).optional(),
    share: decimal(
      { above: 0, below: 1 },
      '<share> of units that each arm but the control was to get: counts that differ from it are a warning',
    ).optional(),
    effect: decimal(
      { above: 0, upTo: 10 },
      '<share> the relative difference that is to be found, of which the number of units follows',
    ).default(0.02),
    power: decimal({ above: 0.5, below: 1 }, '<share> the probability to find it').default(0.8),
    unitsPlanned: integer(
      100,
      1_000_000_000,
      '<count> units of an arm at which intervals are narrowest; the same in every look',
    ).default(10_000),
    confidence: decimal({ above: 0.5, below: 1 }, '<share> confidence level').default(0.95),
  }),
  replay: z.strictObject({
    logs: texts('<log> row logs'),
    bundles: text('<address> with --replay, the bundles that served: scores again, too').optional(),
  }),
  workers: z.strictObject(queueFields),
  cancel: z.strictObject({
    run: text('<run> the name of a run that is being computed: `run` in its config'),
    ...queueFields,
  }),
  status: z.strictObject({ run: recordedRun }),
  wait: z.strictObject({
    run: recordedRun,
    timeoutSeconds: decimal({ above: 0, upTo: 31 * 86_400 }, '<seconds> time limit').optional(),
  }),
  runs: z.strictObject({
    folders: texts('<folder> where outputs of runs lie; by default `runs`').default(['runs']),
  }),
  log: z.strictObject({
    run: recordedRun,
    last: integer(1, 1_000_000, '<count> begin with this many of the last events').optional(),
    follow: flag('go on until the run ends'),
    details: flag('print details as well, such as each job'),
  }),
  board: z.strictObject({
    runs: describeField(
      z.array(z.string().min(1, 'expected a value')),
      '<places> folders and s3:// prefixes below which runs have their outputs, separated by commas',
    ).default([]),
    redis: text('<url> the Redis server of the queue', REDIS).optional(),
    prefix: queueFields.prefix,
    servers: describeField(
      z.array(metricsAddress).max(64),
      '<addresses> where ranking servers offer their metrics (qianmo serve --metrics-port), separated by commas',
    ).default([]),
    rankings: describeField(
      z.array(rankingAddress).max(64),
      '<addresses> ranking servers that explore (qianmo serve), to ask about single adgroups, separated by commas',
    ).default([]),
    rankingsTokenFile: text('<file> token of --rankings; also QIANMO_SERVE_TOKEN').optional(),
    host: HOST,
    port: PORT.default(3_000),
    hostAllow: text(
      '<names> more host names that it answers under, separated by commas',
    ).optional(),
    tokenFile: text(
      '<file> token of requests; also the variable QIANMO_DASHBOARD_TOKEN',
    ).optional(),
    allowControl: flag('let pages cancel runs'),
  }),
} as const;

/** A request that has been checked, with its defaults. */
export type RequestOf<Name extends keyof typeof REQUESTS> = z.output<(typeof REQUESTS)[Name]>;
export type TrainingStart = z.input<typeof REQUESTS.trainingStart>;
export type EvaluationChoice = z.input<typeof REQUESTS.evaluationChoice>;

/**
 * @param name the function that was called, for messages
 * @throws QianmoError of kind `usage` that lists every option that is wrong, missing or unknown.
 */
export function checkedRequest<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  name: string,
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = describeIssues(parsed.error.issues, value, schema);
  throw errorOf('usage', 'options are wrong, missing or unknown', {
    where: `${name}()`,
    found: `\n${faults.map((fault) => `    ${fault}`).join('\n')}`,
    cure: 'correct the options named above',
  });
}
