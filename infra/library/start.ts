/** From a log, or a config with data alone, to a served model: prepares, searches, judges, exports and ranks once. */

import { once } from 'node:events';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname } from 'node:path/posix';
import { z } from 'zod';
import { findLogFiles } from '../../coordinator/logs/log-files.js';
import { withDuckSession, withWorkFolder } from '../../coordinator/logs/work-folder.js';
import { rejectsByReason, REJECTS_FILE } from '../../coordinator/prepare/rejected-rows.js';
import { exampleRequest } from '../../coordinator/propose/example-request.js';
import { asPage } from '../../coordinator/reports/document/as-page.js';
import { formatCount } from '../../coordinator/reports/document/format.js';
import {
  startDocument,
  type Baseline,
  type RankedExample,
  type StartedModel,
} from '../../coordinator/reports/start-document.js';
import { evaluateRun } from '../../coordinator/runs/evaluate-run.js';
import { exportRun } from '../../coordinator/runs/export-run.js';
import { initRun, type ProposedConfig } from '../../coordinator/runs/init-run.js';
import { configOf, objectStoreAt } from '../../coordinator/runs/places.js';
import { prepareRun } from '../../coordinator/runs/prepare-run.js';
import { compareEvaluated } from '../../coordinator/runs/record-calls.js';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import { objectStoreOf } from '../../coordinator/runs/run-files.js';
import { interruptedAs, startRun, type CallOptions } from '../../coordinator/runs/run-handle.js';
import { autoRun } from '../../coordinator/runs/sweep-run.js';
import type { ComparisonReport } from '../../coordinator/scoring/compare-runs.js';
import { searchSeconds } from '../../coordinator/sweep/search-space.js';
import type { SweepRecord, TrialRecord } from '../../coordinator/sweep/sweep-record.js';
import { describeValue } from '../../coordinator/sweep/trials.js';
import { at } from '../../shared/base/arrays.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { LATEST_LABEL } from '../../shared/bundle/bundle-store.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import {
  noticeEvent,
  runEventSink,
  sentenceOf,
  warningEvent,
  type RunEventSink,
  type StampedEventSink,
} from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import { joinAddress, type ObjectStore } from '../../shared/storage/object-store.js';
import type { StoreManifest } from '../../shared/tasks/store-manifest.js';
import { RankingClient } from './client.js';
import { serveRankings } from './bundle-verbs.js';
import { keepExecutors } from './local-machine.js';
import { configSchemaPath } from './package-root.js';
import type { StartRequestSchema } from './requests.js';
import { surroundingsOf, type CommandSurroundings } from './verb.js';

/** Proposes a config first, unless the file is one. */
export async function startFromLog(
  { files = [], trialsMax, ...proposal }: z.output<typeof StartRequestSchema>,
  context: RunContext,
  options: CallOptions,
): Promise<StartedModel> {
  const [only = ''] = files;
  const isConfig = files.length === 1 && /\.ya?ml$/.test(only);
  if (isConfig) assertNothingProposed(only, proposal);
  const propose = async (inStep: RunContext): Promise<NamedConfig> => {
    const request = { ...proposal, logs: files.length === 0 ? undefined : [...files] };
    const parts = { schemaPath: configSchemaPath(), ask: options.ask };
    const proposed = await initRun({ ...request, keepsSame: true }, inStep, parts);
    for (const line of proposalLines(proposed)) context.sink(noticeEvent('start', line));
    return { path: proposed.path, nameColumn: proposed.proposed.nameColumn };
  };
  const config = isConfig ? only : propose;
  const started = startFromConfig({ config, trialsMax, fresh: proposal.force }, context, options);
  return interruptedAs(started, () => ({
    what: 'the start was stopped',
    where: isConfig ? only : proposal.out,
    cure: 'run the same command again: it continues from the last checkpoint',
  }));
}

/** @throws QianmoError of kind `usage` if an option says what the config says. */
function assertNothingProposed(config: string, given: Partial<Record<string, unknown>>): void {
  const ofProposal = ['sql', 'task', 'label', 'time', 'name'] as const;
  const found = ofProposal.filter((option) => given[option] !== undefined);
  if (found.length === 0) return;
  throw errorOf('usage', 'the file is a config, which says this itself', {
    where: config,
    found: found.map((option) => `--${option}`).join(', '),
    cure: 'correct the config, or start from the log',
  });
}

const SHOWN_SQL_LENGTH_MAX = 60;

const isShort = (value: unknown): value is string =>
  typeof value === 'string' && value.length <= SHOWN_SQL_LENGTH_MAX;

/** What the config says, so that a wrong guess is seen at once. */
function proposalLines({ path, rowCount, proposed }: ProposedConfig): string[] {
  const { task, label, time, features, leftOut } = proposed;
  const shown = ({ value, reason }: { value: string | object; reason: string | null }): string => {
    const parts: unknown[] = typeof value === 'string' ? [value] : Object.values(value);
    return parts.every(isShort) ? parts.join(' of ') : (reason ?? '');
  };
  return [
    `${path}, from the first ${counted(rowCount, 'row', formatCount(rowCount))} of the log (correct it and start from it where it is wrong):`,
    `  adgroup: ${shown(task)}; label: ${shown(label)}; time: ${time === null ? 'none' : shown(time)}`,
    `  features: ${features.map(({ value }) => value.name).join(', ')}`,
    ...leftOut.map(({ column, reason }) => `  left out: ${column} (${reason})`),
  ];
}

interface NamedConfig {
  readonly path: string;
  /** A column that names adgroups in words. */
  readonly nameColumn: string | null;
}

interface Start {
  /** A config with data alone, or what writes it. */
  readonly config: string | ((context: RunContext) => Promise<NamedConfig>);
  readonly trialsMax?: number | undefined;
  /** Starts the search again although there is one. */
  readonly fresh?: boolean;
  /** Trains a plain model too, to compare the others with. True by default. */
  readonly hasPlain?: boolean;
  readonly nameColumn?: string;
}

const SERVED_PORT = 8_080;
const ANSWER_MS_MAX = 10_000;

/** Computes all parts in the same processes, and writes the result as a page. */
export async function startFromConfig(
  start: Start,
  context: RunContext,
  options: CallOptions,
): Promise<StartedModel> {
  const course = courseOf(context.sink);
  const kept = keepExecutors(runEventSink(context, course.sink));
  const surroundings = { ...surroundingsOf(options), machine: kept.machine };
  const quiet = { ...options, onEvent: course.sink, metrics: undefined };
  const step: Step = (work) => startRun(surroundings, quiet, work);
  try {
    return await startedModel(start, { step, course, options: quiet });
  } finally {
    await kept.close();
  }
}

/** Serves until the command is stopped. */
export async function serveStarted(
  { bundles }: StartedModel,
  { options, print, signal }: CommandSurroundings,
): Promise<void> {
  const service = await serveRankings({ bundle: bundles, port: SERVED_PORT }, options);
  try {
    print(`rankings: ${service.url}/v1/rank (Ctrl-C stops it)`);
    if (!signal.aborted) await once(signal, 'abort');
  } finally {
    await service.close();
  }
}

/** Does a part of the work in a context of its own. Executors stay for the next one. */
type Step = <Result>(work: (context: RunContext) => Promise<Result>) => Promise<Result>;

interface Work {
  readonly step: Step;
  readonly course: Course;
  readonly options: CallOptions;
}

interface PreparedStart {
  readonly path: string;
  readonly config: RunConfig;
  readonly manifest: StoreManifest;
  /** Null if the log has nothing to ask for. */
  readonly example: Awaited<ReturnType<typeof exampleRequest>>;
}

/** Reads the logs, which are fetched and decompressed once. */
function preparedStart(
  { config: source, nameColumn }: Start,
  { step, course }: Work,
): Promise<PreparedStart> {
  return withWorkFolder('prepare', tmpdir(), async (logsFolder) => {
    const reading: Step = (work) => step((context) => work({ ...context, logsFolder }));
    const named =
      typeof source === 'string'
        ? { path: source, nameColumn: nameColumn ?? null }
        : await reading(source);
    const { path } = named;
    course.begin('preparing');
    const { manifest } = await reading((context) =>
      prepareRun({ config: path, force: false }, context),
    );
    const config = await step(({ environment }) => configOf(RUN_CONFIG, path, environment));
    const example = await step(({ environment, signal }) =>
      withDuckSession(
        'prepare',
        { temporaryFolder: tmpdir(), memoryMiBMax: config.data.memoryMiBMax, signal },
        async (session) => {
          const objectStore = (address: string): ObjectStore => objectStoreAt(address, environment);
          const place = { session, objectStoreOf: objectStore, temporaryFolder: logsFolder };
          const [file] = await findLogFiles(config.data, { ...place, fileCountMax: 1 });
          if (file === undefined) throw new Error('logs that were prepared have a file');
          return exampleRequest(config.data, {
            file,
            session,
            nameColumn: named.nameColumn ?? undefined,
          });
        },
      ),
    );
    return { path, config, manifest, example };
  });
}

async function startedModel(start: Start, work: Work): Promise<StartedModel> {
  const { trialsMax, fresh = false, hasPlain = true } = start;
  const { step, course, options } = work;
  const { path, config, manifest, example } = await preparedStart(start, work);
  for (const line of await storeLines(config, manifest, step)) course.say(line);
  course.say(durationSentence(manifest, trialsMax));
  course.begin('training');
  const search = { config: path, trialsMax, resume: !fresh, fresh };
  const record = await step((context) =>
    autoRun({ ...search, hasPlain, replacesOther: true }, context),
  );
  const judged = await judgedModels(record, hasPlain, work);
  course.begin('exporting');
  const bestConfig = record.best?.config ?? path;
  const out = joinAddress(config.output, 'bundles');
  const { bundles } = await step((context) =>
    exportRun(
      { ...{ config: bestConfig, out, label: LATEST_LABEL }, encoding: 'float32', rows: 'support' },
      context,
    ),
  );
  const page = joinAddress(config.output, 'start.html');
  const started: StartedModel = {
    ...{ run: config.run, config: path, bestConfig, bundles, page },
    ...judged,
    serve: `${commandIn(options)} serve --bundle ${shellWord(bundles)} --port ${SERVED_PORT}`,
    example: example === null ? null : await rankedExample(example, bundles, work),
  };
  const html = Buffer.from(asPage(startDocument(started)));
  await step((context) =>
    objectStoreOf(config, config.output, context).put('start.html', html, { kind: 'always' }),
  );
  return started;
}

/** What became of the rows of the log. */
async function storeLines(
  config: RunConfig,
  { taskCount, taskCountBySplit, rowCount, rejectedRowCount, leftOut, trunk }: StoreManifest,
  step: Step,
): Promise<string[]> {
  const { train, validation, test } = taskCountBySplit;
  const rows = (count: number): string => counted(count, 'row', formatCount(count));
  const { tooSmallRowCount = 0, tooSmallTaskCount = 0, cappedRowCount = 0 } = leftOut ?? {};
  const small = counted(tooSmallTaskCount, 'adgroup', formatCount(tooSmallTaskCount));
  const others = [
    ...(trunk === undefined
      ? []
      : [`${rows(trunk.rowCount)} of small adgroups train what all share`]),
    ...(tooSmallRowCount > 0
      ? [`${rows(tooSmallRowCount)} of ${small} left out, too few to judge by`]
      : []),
    ...(cappedRowCount > 0
      ? [`${rows(cappedRowCount)} of large adgroups left out, more than are needed`]
      : []),
  ];
  return [
    `${rows(rowCount)} of ${formatCount(taskCount)} adgroups: ${formatCount(train)} to train, ` +
      `${formatCount(validation)} to choose, ${formatCount(test)} to judge`,
    ...(others.length === 0 ? [] : [others.join('; ')]),
    rejectedRowCount === 0
      ? 'no row was rejected'
      : `${rows(rejectedRowCount)} rejected: ${(await rejectReasons(config, step)).join('; ')}`,
  ];
}

const REASONS_SHOWN_MAX = 4;
const RejectSchema = z.looseObject({ reason: z.string() });

async function rejectReasons(config: RunConfig, step: Step): Promise<string[]> {
  const { store } = config.data;
  const file = await step((context) => objectStoreOf(config, store, context).get(REJECTS_FILE));
  const lines = Buffer.from(file?.bytes ?? [])
    .toString('utf8')
    .split('\n')
    .filter(Boolean);
  const kinds = rejectsByReason(lines.map((line) => RejectSchema.parse(JSON.parse(line))));
  const shown = kinds.slice(0, REASONS_SHOWN_MAX);
  const rest = kinds.slice(shown.length).reduce((sum, { rowCount }) => sum + rowCount, 0);
  return [
    ...shown.map(({ reason, rowCount }) => `${formatCount(rowCount)} because ${reason}`),
    ...(rest === 0 ? [] : [`${formatCount(rest)} for other reasons`]),
  ];
}

/** Support and query rows are about as many. */
function durationSentence(
  { features, taskCount, taskCountBySplit: { train }, rowCount, trunk }: StoreManifest,
  trialsMax: number | undefined,
): string {
  const cores = availableParallelism();
  const trunkRowCount = trunk?.rowCount ?? 0;
  const rowsPerTask = (rowCount - trunkRowCount) / taskCount;
  const size = {
    ...{ trainTaskCount: train, queryRowsPerTask: rowsPerTask / 2, inputCount: features.length },
    trainRowCount: train * rowsPerTask + trunkRowCount,
  };
  const minutes =
    searchSeconds(size, { cores, ...(trialsMax === undefined ? {} : { trialsMax }) }) / 60;
  const [least, most] = [Math.ceil(minutes * 0.5), Math.ceil(minutes * 1.5)];
  const range = least === most ? String(least) : `${least} to ${most}`;
  return `training and evaluation take about ${range} min on ${counted(cores, 'core')}`;
}

type JudgedPart = Pick<
  StartedModel,
  'comparison' | 'models' | 'servedIndex' | 'constantIndex' | 'baselines'
>;

type Arms = RunConfig['evaluation']['arms'];

/** An evaluated model, or an arm of one. */
interface Judged {
  readonly name: string;
  readonly words: string;
  /** `OUTPUT:ARM`, as comparisons name it. */
  readonly run: string;
}

/** Judges the trained trials, the served one and plain models on the same held-out adgroups. */
async function judgedModels(
  record: SweepRecord,
  hasPlain: boolean,
  { step, course }: Work,
): Promise<JudgedPart> {
  const { best } = record;
  const trials = record.trials.filter(
    ({ name, averageOf, scores }) =>
      name === best?.trial ||
      (averageOf === undefined && scores.at(-1)?.validationLogloss !== null),
  );
  const [first] = trials;
  if (first === undefined) throw new Error('a finished search has a trial');
  const judged: Judged[] = [];
  for (const [place, trial] of trials.entries()) {
    course.begin('evaluating', { done: place, total: trials.length + 1 });
    const config = await configAt(trial.output, step);
    const arms: Arms =
      config.method.kind === 'global' ? ['global'] : ['meta-adapted', 'meta-chosen'];
    const isServed = trial.name === best?.trial;
    await evaluateArms(config, trial === first ? ['constant', ...arms] : arms, isServed, step);
    judged.push({
      name: trial.name,
      words: wordsOf(trial),
      run: `${trial.output}:${arms.at(-1) ?? ''}`,
    });
  }
  judged.push({
    name: 'constant',
    words: 'the same for every row',
    run: `${first.output}:constant`,
  });
  const plain = hasPlain ? await plainModels(trials, { step, course }) : [];
  const all = [...judged, ...plain];
  const compared = (...runs: readonly Judged[]): Promise<ComparisonReport> =>
    step((context) => compareEvaluated({ runs: runs.map(({ run }) => run) }, context));
  const servedIndex = judged.findIndex(({ name }) => name === best?.trial);
  const served = at(judged, servedIndex);
  const withModel = (name: string): Judged | undefined =>
    judged[trials.findIndex(({ settings }) => settings['model'] === name)];
  const baselines: Baseline[] = [];
  for (const { model, words } of [
    { model: plain[0], words: 'a plain model for all' },
    { model: plain[1], words: 'that model with a level for each adgroup' },
    { model: hasPlain ? undefined : withModel('deepfm'), words: 'one model for all' },
    { model: withModel('encodings'), words: 'a regression over encodings' },
  ])
    if (model !== undefined)
      baselines.push({
        words,
        comparison: model === served ? null : await compared(model, served),
      });
  return {
    ...{ models: all, servedIndex, constantIndex: trials.length, baselines },
    comparison: await compared(...all),
  };
}

function configAt(output: string, step: Step): Promise<RunConfig> {
  return step(({ environment }) =>
    configOf(RUN_CONFIG, joinAddress(output, 'run.yaml'), environment),
  );
}

function wordsOf({ averageOf, settings }: TrialRecord): string {
  if (averageOf !== undefined) return `the mean of ${averageOf.join(' and ')}`;
  const [model, adapts] = [settings['model'], settings['adapts']].map(describeValue);
  return adapts === 'nothing' ? `${model}, one for all` : `${model}, ${adapts}`;
}

/** The importance of features takes a pass for each of them, and one report shows it. */
async function evaluateArms(
  config: RunConfig,
  arms: Arms,
  hasImportance: boolean,
  step: Step,
): Promise<void> {
  const evaluation = { ...config.evaluation, arms };
  const request = { config: { ...config, evaluation }, fresh: false, hasImportance };
  await step((context) => evaluateRun(request, context));
}

/** The plain model of the search, and the same with a level for each adgroup. */
async function plainModels(
  trials: readonly TrialRecord[],
  { step, course }: Pick<Work, 'step' | 'course'>,
): Promise<Judged[]> {
  const like = trials.find(({ settings }) => settings['model'] === 'deepfm');
  if (like === undefined) return [];
  course.begin('evaluating', { done: trials.length, total: trials.length + 1 });
  const output = joinAddress(dirname(like.output), 'plain');
  const config = await configAt(output, step);
  await evaluateArms(config, ['global', 'global-shift'], false, step);
  return [
    { name: 'plain', words: 'deepfm, one for all, without own rates', run: `${output}:global` },
    { name: 'level', words: 'plain and a level for each adgroup', run: `${output}:global-shift` },
  ];
}

/** Asks a server once, as people will. Null if the server refuses it. */
async function rankedExample(
  { body, names }: NonNullable<PreparedStart['example']>,
  bundles: string,
  { course, options }: Work,
): Promise<RankedExample | null> {
  const service = await serveRankings({ bundle: bundles, port: 0 }, options);
  try {
    const client = new RankingClient({ url: service.url, timeoutMs: ANSWER_MS_MAX });
    const { order, expected } = await client.rank(body);
    // JSON without an apostrophe, which would end the argument.
    const json = JSON.stringify(body).replaceAll("'", '\\u0027');
    return {
      ranked: order.map((place) => ({ name: at(names, place), expected: at(expected, place) })),
      ask: `curl -s localhost:${SERVED_PORT}/v1/rank -H 'content-type: application/json' -d '${json}'`,
    };
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    course.warn(`no example of a request: ${error.message}`);
    return null;
  } finally {
    await service.close();
  }
}

/** npx and npm find a command that is not on the PATH. */
function commandIn({ environment = {} }: CallOptions): string {
  return environment['npm_command'] === undefined ? 'qianmo' : 'npx qianmo';
}

/** A word of a shell. */
function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

interface Course {
  readonly sink: StampedEventSink;
  /** @param parts are counted instead of the work that events tell of */
  begin(stage: string, parts?: { readonly done: number; readonly total: number }): void;
  say(text: string): void;
  warn(text: string): void;
}

/** Passes on warnings, and how far the present stage is. What single runs say is in their logs. */
function courseOf(tell: RunEventSink): Course {
  let stage = '';
  let isCounted = false;
  const progress = (done: number, total: number | null): void => {
    if (total === 1) return;
    // The line stays until another stage takes its place.
    tell({ kind: 'progress', stage, done: Math.min(done, (total ?? Infinity) - 1), total });
  };
  return {
    sink: (event) => {
      if (event.kind === 'progress' && !isCounted) progress(event.done, event.total);
      if (event.kind === 'outer-step' && !isCounted) progress(event.outerStep, event.outerSteps);
      const isSaid = event.kind === 'warning' && event.code === 'rows-rejected';
      if (sentenceOf(event).level === 'warning' && !isSaid) tell(event);
    },
    begin: (name, parts) => {
      [stage, isCounted] = [name, parts !== undefined];
      if (parts !== undefined) progress(parts.done, parts.total);
    },
    say: (text) => tell(noticeEvent('start', text)),
    warn: (text) => tell(warningEvent('start', text)),
  };
}
