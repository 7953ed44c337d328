/** Sweeps many runs of one base config, narrowed down on the validation adgroups; a search is a sweep whose trials nobody names. */

import { spreadOver } from '../../shared/base/arrays.js';
import { RUN_CONFIG, runConfigYaml } from '../../shared/config/load-run-config.js';
import { type RunConfig, configHash } from '../../shared/config/run-config.js';
import { SWEEP_CONFIG, type SweepConfig } from '../../shared/config/sweep-config.js';
import { type EventKind, type RunEventSink, warningEvent } from '../../shared/events/run-events.js';
import { type ObjectStore, joinAddress } from '../../shared/storage/object-store.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { LATEST_KEY, latestManifestOf } from '../checkpoints/checkpoint-manifest.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import { selectionCriterionOf } from '../evaluation/arms.js';
import {
  validationLossOf,
  validationScore,
  validationTasksOf,
} from '../evaluation/validation-score.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { asPage } from '../reports/document/as-page.js';
import { sweepDocument } from '../reports/sweep-document.js';
import { wordsOf } from '../reports/arm-sections.js';
import { readFlatRows, type FlatRows, clicksOf, smoothedRate } from '../scoring/held-out-rows.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import { meanLoss } from '../scoring/validated-losses.js';
import { outerStepTotal, rungsOf, runSweep } from '../sweep/run-sweep.js';
import {
  emptyRecord,
  openSweepJournal,
  rankedOnRung,
  rankedTrials,
  withoutAverages,
  withScore,
  withTrial,
  type SweepPlan,
  type SweepRecord,
  type TrialRecord,
} from '../sweep/sweep-record.js';
import {
  averageTrial,
  outerStepsOf,
  planTrials,
  runNameOf,
  type Trial,
  asTrial,
} from '../sweep/trials.js';
import { train } from '../training/outer-loop.js';
import { interruptedAs } from './run-handle.js';
import type { RunContext } from './run-context.js';
import { configOf, placeOf, searchOutputOf, uncheckedConfigOf } from './places.js';
import { dispatchForRun } from './dispatch-for-run.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import type { RequestOf } from './requests.js';
import {
  checkpointAddressOf,
  checkpointsOf,
  claimedPlace,
  objectStoreOf,
  openStoreAsPrepared,
  preparedRunOn,
} from './run-files.js';
import { startFromRun } from './train-run.js';
import { isRecord } from '../../shared/base/canonical-json.js';
import { errorOf } from '../../shared/base/errors.js';
import { declaredFeatures } from '../../shared/config/data-config.js';
import { SEARCH_TRIALS_MAX } from '../../shared/config/auto-config.js';
import { labelOf } from '../../shared/tasks/task-label.js';
import { candidatesOf, commonTraining, type DataFacts } from '../sweep/search-space.js';

type SweepOptions = Parameters<typeof runSweep>[0];

type SweepOrder = RequestOf<'sweep'>;

export async function sweepRuns(request: SweepOrder, context: RunContext): Promise<SweepRecord> {
  const { environment } = context;
  const sweep = await configOf(SWEEP_CONFIG, request.config, environment);
  const uncheckedBase = await uncheckedConfigOf(RUN_CONFIG, sweep.base, environment);
  const base = RUN_CONFIG.check(uncheckedBase, sweep.base);
  const place = placeOf(request.config);
  const trials = planTrials(sweep, uncheckedBase, place);
  const rungs = rungsOf(trials.length, outerStepsOf(trials), sweep.halving, place);
  const planned: PlannedSweep = { kind: 'sweep', sweep, base, trials, rungs };
  const { output } = sweep;
  const run = runNameOf(sweep.sweep);
  const logged = loggedCallOf('sweep', { run, output, storage: base.storage });
  const sweeping = loggedRun(logged, context, async (inner) =>
    sweepTrials(planned, await openStoreAsPrepared(base, inner), request, inner),
  );
  return interruptedAs(sweeping, () => ({
    what: 'the sweep was stopped; its scores and the checkpoints of unfinished trials are kept',
    where: sweep.output,
    cure: 'continue with `qianmo sweep sweep.yaml --resume`',
  }));
}

interface PlannedSweep {
  readonly kind: SweepRecord['kind'];
  readonly sweep: Omit<SweepConfig, 'grid' | 'halving' | 'trialsMax'>;
  readonly base: RunConfig;
  readonly trials: readonly Trial[];
  readonly rungs: SweepPlan['rungs'];
  /** Trained with them to compare them with, and not chosen. */
  readonly plain?: Trial | null;
}

/** Validation adgroups that score each trial, spread over all of them. */
const SCORED_ADGROUPS_MAX = 2_000;

const FILES = {
  sweep: { recordKey: 'sweep.json', page: 'sweep.html' },
  search: { recordKey: 'auto.json', page: 'auto.html' },
} as const;

async function sweepTrials(
  planned: PlannedSweep,
  store: TaskStore,
  request: Omit<SweepOrder, 'config'> & Pick<AutoOrder, 'replacesOther'>,
  context: RunContext,
): Promise<SweepRecord> {
  const { kind, sweep, base, trials, plain = null } = planned;
  const { plan, validation } = await plannedOn(store, planned);
  const output = objectStoreOf(base, sweep.output, context);
  const files = FILES[kind];
  const journal = await openSweepJournal(output, emptyRecord(plan), { ...request, ...files });
  const isWhole = plain === null || (await isTrained(plain));
  if (journal.record.best !== null && isWhole) return journal.record;
  const runId = runNameOf(sweep.sweep);
  const { concurrentTrials } = sweep;
  const { dispatcher } = await dispatchForRun(
    base,
    { runId, trainingsAtOnce: concurrentTrials },
    ...([request, context] as const),
  );
  // All models are checked first: one that does not fit the store is refused before training starts.
  const companions = plain === null ? [] : [plain];
  const trained = { rungs: plan.rungs, trials: [...trials, ...companions] };
  const work = trialWork(trained, { store, validation }, dispatcher, context);
  // The journal fences a coordinator off that has lost the claim.
  const claim = await claimedPlace(base, { run: runId, address: sweep.output }, context);
  if (claim !== null) context.onClose(() => claim.release());
  if (journal.isFresh) await discardEarlierTrials(output);
  // `train --resume` and `evaluate` accept the config of a trial.
  const writeConfig = ({ name, config }: Trial): Promise<unknown> => {
    const yaml = trialYaml(config, base, `Trial ${name} of sweep ${plan.sweep}.`);
    return output.put(`trials/${name}/run.yaml`, Buffer.from(yaml), { kind: 'always' });
  };
  for (const trial of trained.trials) await writeConfig(trial);
  await journal.save(journal.record);
  const save = async (record: SweepRecord): Promise<void> => {
    await journal.save(record);
    await output.put(files.page, Buffer.from(asPage(sweepDocument(record))), { kind: 'always' });
  };
  const { sink, signal } = context;
  let record = await runSweep({
    ...{ ...work, record: withoutAverages(journal.record), concurrentTrials, save, sink, signal },
    // All trials of a search may be averaged.
    trialsKept: kind === 'search' ? trials.length : sweep.trialsKept,
    companion: plain?.name,
  });
  const averages: Trial[] = [];
  if (kind === 'search') {
    const scoreAverage = async (average: Trial): Promise<number> => {
      averages.push(average);
      await writeConfig(average);
      const ofAverage = { ...plan, trials: [average] };
      const its = trialWork(ofAverage, { store, validation }, dispatcher, context);
      // An earlier end of this search may have made another trial under the name.
      await its.discard(average.name);
      const score = {
        ...{ rungIndex: 0, outerSteps: 0 },
        ...(await its.runTrial(average.name, 0, signal)),
      };
      record = withScore(withTrial(record, average), average.name, score);
      await save(record);
      const { validationLogloss: validationLoss } = score;
      const told = { trial: average.name, outerStep: 0, loss: plan.loss, validationLoss };
      sink({ kind: 'trial-scored', ...told });
      return validationLoss;
    };
    await averageBest(rankedOnRung(record, 0), { trials, sweep }, scoreAverage);
  }
  const { yaml, ...best } = bestOf(record, [...trials, ...averages], base);
  await output.put('best.yaml', Buffer.from(yaml), { kind: 'always' });
  const ended = { ...record, best: { ...best, config: joinAddress(sweep.output, 'best.yaml') } };
  await save(ended);
  sink({ kind: 'report-written', address: joinAddress(sweep.output, files.page) });
  return ended;
}

async function plannedOn(
  store: TaskStore,
  { kind, sweep, base, trials, rungs }: PlannedSweep,
): Promise<{ readonly plan: SweepPlan; readonly validation: FlatRows }> {
  const segment = sweep.segment ?? null;
  const tasks = spreadOver(validationTasksOf(store, base.data.store, segment), SCORED_ADGROUPS_MAX);
  const validation = await readFlatRows(store, tasks, 'query');
  const plan: SweepPlan = {
    ...{ kind, sweep: sweep.sweep, base: sweep.base, trials, rungs, segment },
    storeDigest: store.digest,
    criterion: `${selectionCriterionOf(validation)}, as a bundle is served`,
    loss: wordsOf(validation).loss,
  };
  return { plan, validation };
}

type BestTrial = Omit<NonNullable<SweepRecord['best']>, 'config'>;

function bestOf(
  record: SweepRecord,
  trials: readonly Trial[],
  base: RunConfig,
): BestTrial & { readonly yaml: string } {
  const [best] = rankedTrials(record);
  const { validationLogloss = null, cell = null } = best?.scores.at(-1) ?? {};
  if (best === undefined || validationLogloss === null || cell === null)
    throw new Error('a finished sweep has scores');
  const comment =
    `The best trial of sweep ${record.sweep} (${best.name}): validation ${record.loss} ${validationLogloss.toFixed(5)}.\n` +
    'Its output holds the trained checkpoint; change run and output to train it again.';
  const yaml = trialYaml(trialNamed(trials, best.name).config, base, comment);
  return { trial: best.name, validationLogloss, cell, yaml };
}

/**
 * Makes means of the trials of a search: from the best one on, the trial joins with which the mean has the lowest validation
 * loss, as long as that falls (forward selection: Caruana et al., ICML 2004).
 */
async function averageBest(
  ranked: readonly TrialRecord[],
  { trials, sweep }: Pick<PlannedSweep, 'trials' | 'sweep'>,
  scoreAverage: (average: Trial) => Promise<number>,
): Promise<void> {
  const lossOf = ({ scores }: TrialRecord): number | null =>
    scores.at(-1)?.validationLogloss ?? null;
  const finite = ranked.filter((trial) => lossOf(trial) !== null);
  const candidates = finite
    .map(({ name }) => trialNamed(trials, name))
    .filter((trial) => averageTrial([trial], sweep, trial.name) !== null);
  let members = candidates.slice(0, 1);
  const first = finite.find(({ name }) => name === members[0]?.name);
  if (first === undefined) return;
  let lowest = lossOf(first) ?? Infinity;
  let count = 0;
  for (let isLower = true; isLower;) {
    isLower = false;
    const before = members;
    for (const trial of candidates.filter((each) => !before.includes(each))) {
      const joined = [...before, trial];
      const average = averageTrial(joined, sweep, `a${String(count + 1).padStart(2, '0')}`);
      if (average === null) continue;
      count += 1;
      const loss = await scoreAverage(average);
      if (loss < lowest) [members, lowest, isLower] = [joined, loss, true];
    }
  }
}

async function isTrained({ config }: Trial): Promise<boolean> {
  const checkpoints = objectStoreOf(config, checkpointAddressOf(config));
  return (await latestManifestOf(checkpoints)) !== null;
}

/** A checkpoint of an earlier sweep beyond a rung would be scored in place of the rung. */
async function discardEarlierTrials(output: ObjectStore): Promise<void> {
  for (const key of await output.list('trials/'))
    if (/^trials\/([at]\d+|plain)\/checkpoints\//.test(key)) await output.delete(key);
}

/** The config that the sweep used, but with as many checkpoints kept as the base config asks for. */
function trialYaml(config: RunConfig, base: RunConfig, comment: string): string {
  const { checkpointsKept } = base.training;
  return runConfigYaml({ ...config, training: { ...config.training, checkpointsKept } }, comment);
}

function trialNamed(trials: readonly Trial[], name: string): Trial {
  const trial = trials.find((each) => each.name === name);
  if (trial === undefined) throw new Error(`no trial ${name}`);
  return trial;
}

/** The data that all trials are trained and scored on. */
interface TrialData {
  /** The store as prepared, because each trial has a model of its own. */
  readonly store: TaskStore;
  readonly validation: FlatRows;
}

function trialWork(
  { trials, rungs }: Pick<SweepPlan, 'trials' | 'rungs'>,
  { store, validation }: TrialData,
  dispatcher: Dispatcher,
  context: RunContext,
): Pick<SweepOptions, 'runTrial' | 'discard'> {
  const longest = rungs.at(-1)?.outerSteps ?? 0;
  const ofAll = trials.map(({ config }) => Math.min(longest, config.training.outerSteps));
  const total = rungs.length > 1 ? outerStepTotal(rungs) : ofAll.reduce((sum, of) => sum + of, 0);
  const sink = sweepSink(context.sink, total);
  const runs = new Map(trials.map(({ name, config }) => [name, preparedRunOn(store, config)]));
  const runOf = (name: string): PreparedRun => {
    const run = runs.get(name);
    if (run === undefined) throw new Error(`no trial ${name}`);
    return run;
  };
  const trained = (run: PreparedRun, stopAtOuterStep: number, signal: AbortSignal) =>
    keepRecord(run, { ...context, sink }, async (ofTrial) => {
      const startFrom = await startFromRun(run, { resume: true }, context);
      const validationLoss = validationLossOf({ ...run, dispatcher, signal });
      return train({
        ...{ run, dispatcher, stopAtOuterStep },
        ...(validationLoss === undefined ? {} : { validationLoss }),
        checkpoints: checkpointsOf(run, { ...context, sink: ofTrial }),
        start: { resume: true, ...(startFrom === null ? {} : { startFrom }) },
        caller: { clock: context.clock, sink: ofTrial, signal },
      });
    });
  const discard = async (name: string): Promise<void> => {
    const { config } = runOf(name);
    const checkpoints = objectStoreOf(config, checkpointAddressOf(config));
    // The pointer first, so that an interrupted removal leaves no checkpoint.
    await checkpoints.delete(LATEST_KEY);
    for (const key of await checkpoints.list('')) await checkpoints.delete(key);
  };
  return {
    async runTrial(name, rungOuterSteps, signal) {
      const run = runOf(name);
      const stopAtOuterStep = Math.min(rungOuterSteps, run.config.training.outerSteps);
      let outcome = await trained(run, stopAtOuterStep, signal);
      const { outerStep: found } = outcome.state;
      if (found > stopAtOuterStep) {
        const what = `${name} was trained to outer step ${found} outside the sweep, which scores it at ${stopAtOuterStep}`;
        sink(warningEvent('trial-retrained', `${what}: it is trained again`));
        await discard(name);
        outcome = await trained(run, stopAtOuterStep, signal);
      }
      const { state, metaParameters } = outcome;
      const scored = { ...run, dispatcher, signal };
      const { heldOutLosses, cell, metaDigest } = await validationScore(
        ...([scored, metaParameters, validation] as const),
      );
      const validationLogloss = meanLoss(heldOutLosses, adgroupImpressions(validation));
      // A trial that ends before the rung does, or stops early, stands there with what it has become.
      const { outerStep } = state;
      const ended = outerStep < rungOuterSteps ? { outerSteps: outerStep } : {};
      return { validationLogloss, cell, metaDigest, ...ended };
    },
    discard,
  };
}

/** The record of a trial, in its own output: the events of its training, and how that ended. */
async function keepRecord<Result>(
  { config }: PreparedRun,
  context: RunContext,
  work: (sink: RunEventSink) => Promise<Result>,
): Promise<Result> {
  const closings: (() => Promise<void>)[] = [];
  const onClose: RunContext['onClose'] = (close) => void closings.push(close);
  const logged = { ...loggedCallOf('trial', config), bounds: TRIAL_LOG_BOUNDS };
  try {
    return await loggedRun(logged, { ...context, onClose }, ({ sink }) => work(sink));
  } finally {
    for (const close of closings) await close();
  }
}

/** 2 MiB: some 2,000 outer steps, the last ones of a longer trial. */
const TRIAL_LOG_BOUNDS = { segmentByteCountMax: 1024 * 1024, segmentCountMax: 2 };

/** Events of a single trial, which the sweep replaces by the progress of all trials and by what became of it. */
const TRIAL_COURSE: ReadonlySet<EventKind> = new Set([
  'run-started',
  'outer-step',
  'checkpoint',
  'run-validated',
  'run-finished',
  'run-failed',
]);

function sweepSink(sink: RunEventSink, total: number): RunEventSink {
  let done = 0;
  return (event, source) => {
    if (event.kind === 'outer-step') {
      done += 1;
      sink({ kind: 'progress', stage: 'outer steps of all trials', done, total });
    }
    if (!TRIAL_COURSE.has(event.kind)) sink(event, source);
  };
}

interface AutoOrder extends RequestOf<'auto'> {
  /** Trains a plain model too, as the run `plain`, to compare the others with. */
  readonly hasPlain?: boolean;
  /** A search of another config or store is replaced. */
  readonly replacesOther?: boolean;
}

/** The grid of inner steps of configs that name none: each cell is computed for every trial that adapts. */
const GRID = { innerRates: [0.03, 0.1, 0.3, 1], innerSteps: [1, 3, 10] };

export async function autoRun(request: AutoOrder, context: RunContext): Promise<SweepRecord> {
  const { config: source } = request;
  const place = placeOf(source);
  const given = await uncheckedConfigOf(RUN_CONFIG, source, context.environment);
  const own = RUN_CONFIG.check(given, place);
  const fields: Fields = isRecord(given) ? given : {};
  const output = searchOutputOf(own.output);
  const logged = loggedCallOf('auto', { ...own, output });
  const searching = loggedRun(logged, context, async (inner) => {
    const store = await openStoreAsPrepared(own, inner);
    const planned = await plannedSearch({ own, fields, place, output }, request, store);
    return sweepTrials(planned, store, request, inner);
  });
  return interruptedAs(searching, () => ({
    what: 'the search was stopped; its scores and the checkpoints of unfinished trials are kept',
    where: output,
    cure: 'continue with `qianmo auto run.yaml --resume`',
  }));
}

type Fields = Readonly<Record<string, unknown>>;

interface Searched {
  /** The run config with its defaults, of which the search takes data, seed and surroundings. */
  readonly own: RunConfig;
  /** The fields that the config has by itself. */
  readonly fields: Fields;
  readonly place: string;
  readonly output: string;
}

async function plannedSearch(
  searched: Searched,
  request: AutoOrder,
  store: TaskStore,
): Promise<PlannedSweep> {
  const { own, place, output } = searched;
  requireFeatures(own, store);
  const sweep = searchNameOf(own.run);
  const segment = own.auto?.segment;
  const facts = await factsOf(own, store, segment ?? null);
  const trialsMax = request.trialsMax ?? own.auto?.trialsMax ?? SEARCH_TRIALS_MAX;
  const trials = trialsOf(searched, { sweep, facts, trialsMax });
  const outerSteps = outerStepsOf(trials);
  return {
    kind: 'search',
    sweep: {
      ...{ sweep, base: place, output, concurrentTrials: concurrentTrialsOf(request) },
      trialsKept: trials.length,
      ...(segment === undefined ? {} : { segment }),
    },
    ...{ base: own, trials, rungs: [{ outerSteps, trialCount: trials.length }] },
    plain: request.hasPlain === true ? plainOf(trials, { sweep, output }) : null,
  };
}

/** The DeepFM for all without the click rate of an adgroup's own rows; null if the search has none. */
function plainOf(
  trials: readonly Trial[],
  surroundings: Parameters<typeof asTrial>[1],
): Trial | null {
  const like = trials.find(({ settings }) => settings['model'] === 'deepfm');
  if (like === undefined) return null;
  const { supportInputs: _own, ...model } = like.config.model;
  const name = 'plain';
  return { name, settings: {}, config: asTrial({ ...like.config, model }, surroundings, name) };
}

/** The section `auto` adds target encodings to the data: a store that was prepared without it lacks them. */
function requireFeatures({ data }: RunConfig, { manifest }: TaskStore): void {
  const found = new Set(manifest.features.map(({ name }) => name));
  const missing = declaredFeatures(data).filter(({ name }) => !found.has(name));
  if (missing.length === 0) return;
  throw errorOf('usage', 'the task store lacks features of the config', {
    where: data.store,
    expected: missing.map(({ name }) => name).join(', '),
    found: 'a store that was prepared from another config, such as one without the section auto',
    cure: 'prepare it again: qianmo prepare run.yaml',
  });
}

/** With room for the names of trials. A run that is named for the search already is not named for it twice. */
function searchNameOf(run: string): string {
  return `${run.slice(0, 45).replace(/-auto$/, '')}-auto`;
}

/** A small trial leaves processes idle between its outer steps. A single one computes one job at a time. */
function concurrentTrialsOf({ processes, workers }: AutoOrder): number {
  return (processes ?? workers) === 1 ? 1 : 2;
}

/** The facts of a prepared store that the search's candidates follow from. */
export async function factsOf(
  own: RunConfig,
  store: TaskStore,
  segment: string | null,
): Promise<DataFacts> {
  const [first = 0] = validationTasksOf(store, own.data.store, segment);
  const { labelIndex = 0 } = store.tasks[first] ?? {};
  const train = store.tasks.filter((task) => task.split === 'train');
  const scored = train.filter((task) => (task.labelIndex ?? 0) === labelIndex);
  const isOfClicks = labelOf(store.manifest, { labelIndex }).loss !== 'squared';
  const perTask = (key: 'supportRowCount' | 'queryRowCount'): number =>
    train.reduce((sum, task) => sum + task[key], 0) / Math.max(1, train.length);
  const counted = await clicksOf(
    store,
    scored.map(({ taskIndex }) => taskIndex),
  );
  return {
    segment,
    trainTaskCount: train.length,
    supportRowsPerTask: perTask('supportRowCount'),
    queryRowsPerTask: perTask('queryRowCount'),
    trainRowCount: store.tasks
      .filter(({ split }) => split === 'train' || split === 'trunk')
      .reduce(
        (sum, { supportRowCount, queryRowCount }) => sum + supportRowCount + queryRowCount,
        0,
      ),
    impressions: counted.impressions,
    clickRate: isOfClicks ? smoothedRate(counted) : null,
  };
}

interface TrialChoice {
  readonly sweep: string;
  readonly facts: DataFacts;
  readonly trialsMax: number;
}

/** Each is a run of its own. What the config says of training holds for all of them, but for what they try. */
function trialsOf(
  { own, fields, place, output }: Searched,
  { sweep, facts, trialsMax }: TrialChoice,
): Trial[] {
  const ownTraining = sectionOf(fields, 'training');
  const common = commonTraining(facts);
  const ownEvaluation = sectionOf(fields, 'evaluation');
  const { auto: _searched, method: _method, model: _model, ...others } = fields;
  const rest = { ...others, data: own.data };
  const candidates = [...(hasOwnModel(fields) ? [null] : []), ...candidatesOf(facts, trialsMax)];
  const seen = new Set<string>();
  return candidates.slice(0, trialsMax).flatMap((candidate, index): Trial[] => {
    const name = `t${String(index + 1).padStart(2, '0')}`;
    const sections =
      candidate === null
        ? { model: own.model, method: own.method, training: { ...common, ...ownTraining } }
        : {
            ...candidate,
            training: { ...common, ...candidate.length, ...ownTraining, ...candidate.training },
          };
    const { model, method, training } = sections;
    const evaluation = { ...GRID, ...candidate?.evaluation, ...ownEvaluation };
    const value = { ...rest, evaluation, model, method, training };
    const config = RUN_CONFIG.check(value, `${place}, trial ${name} of the search`);
    const hash = configHash(config);
    if (seen.has(hash)) return [];
    seen.add(hash);
    const settings = candidate?.words ?? { model: 'as the config says' };
    return [{ name, settings, config: asTrial(config, { sweep, output }, name) }];
  });
}

function sectionOf(fields: Fields, name: string): Fields {
  const section = fields[name];
  return isRecord(section) ? section : {};
}

/** A model or a method of the config itself is tried first. */
function hasOwnModel({ model, method }: Fields): boolean {
  const isChosen = isRecord(method) && method['kind'] !== 'auto';
  return isChosen || model !== undefined;
}
