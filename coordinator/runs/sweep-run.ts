/** Sweeps many runs of one base config, narrowed down on the validation adgroups. */

import type { z } from 'zod';
import { at } from '../../shared/base/arrays.js';
import {
  checkedRunConfig,
  loadUncheckedRunConfig,
  runConfigYaml,
} from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { SweepConfig } from '../../shared/config/sweep-config.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import {
  armsCriterionOf,
  demandOwnArm,
  settingsTried,
  scoreArms,
} from '../evaluation/arms-score.js';
import {
  readValidationRows,
  validationCells,
  validationCriterionOf,
  validationScore,
  type ScoredRun,
} from '../evaluation/validation-score.js';
import type { ChosenTrial } from '../auto/choose-trial.js';
import { asPage } from '../reports/document/as-page.js';
import { sweepDocument } from '../reports/sweep-document.js';
import { wordsOf } from '../reports/verdicts.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import { isCrossFitted } from '../sweep/safe-trials.js';
import { runSweep, type SweepOptions, type FoundScore } from '../sweep/run-sweep.js';
import { rungsOf, outerStepTotal } from '../sweep/rungs.js';
import { openSweepJournal } from '../sweep/sweep-journal.js';
import {
  beforeEnd,
  emptyRecord,
  rankedTrials,
  SweepRecordSchema,
  withLatestScore,
  withScore,
  withTrainingLosses,
  withTrials,
  type SweepPlan,
  type SweepRecord,
  type TrialRecord,
  type TrialScore,
} from '../sweep/sweep-record.js';
import { outerStepsOf, planTrials, runNameOf, type Trial } from '../sweep/trials.js';
import { placeOf, sweepConfigOf } from './config-sources.js';
import { withCrossFitting, crossFittedLosses } from '../auto/cross-fitted-losses.js';
import { dispatchForRun } from './dispatch-for-run.js';
import { interruptedAs } from './run-handle.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import { configReaderOf } from './places.js';
import type { SweepRequestSchema } from './requests.js';
import type { RunContext } from './run-context.js';
import {
  claimedPlace,
  joinAddress,
  objectStoreOf,
  openStoreAsPrepared,
  checkpointsOf,
  preparedRunOn,
  savedMetaParametersOf,
} from './run-files.js';
import { configWithoutFold } from '../auto/cross-fitting.js';
import {
  LATEST_KEY,
  chosenManifestOf,
  latestManifestOf,
} from '../checkpoints/checkpoint-manifest.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import { sumOf } from '../scoring/metrics.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { validationLossOf } from '../evaluation/validation-loss.js';
import { train } from '../training/outer-loop.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import {
  type EventKind,
  type RunEventSink,
  warningEvent,
  type RunEventOf,
} from '../../shared/events/run-events.js';
import { startFromRun } from './start-from-run.js';

type SweepOrder = z.output<typeof SweepRequestSchema>;

export async function sweepRuns(request: SweepOrder, context: RunContext): Promise<SweepRecord> {
  const { environment } = context;
  const sweep = await sweepConfigOf(request.config, environment);
  const uncheckedBase = await loadUncheckedRunConfig(sweep.base, configReaderOf(environment));
  const base = checkedRunConfig(uncheckedBase, sweep.base);
  const place = placeOf(request.config);
  const trials = planTrials(sweep, uncheckedBase, place);
  const arms = sweep.score?.arms;
  if (arms !== undefined) for (const { config } of trials) demandOwnArm(config, arms);
  const rungs = rungsOf(trials.length, outerStepsOf(trials), sweep.halving, place);
  const planned: PlannedSweep = { sweep, base, trials, rungs };
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

export interface PlannedSweep {
  readonly sweep: Omit<SweepConfig, 'grid' | 'halving' | 'trialsMax'>;
  readonly base: RunConfig;
  readonly trials: readonly Trial[];
  readonly rungs: SweepPlan['rungs'];
  readonly search?: TrialSearch;
}

/** The parts in which a search differs from a sweep, whose trials its config names. */
export interface TrialSearch {
  readonly budgetMinutes: number | null;
  /** The validation adgroups that score the trials. */
  readonly scored: (taskIndices: readonly number[]) => readonly number[];
  readonly mayBegin: NonNullable<SweepOptions['mayBegin']>;
  /** Training tasks by fold, if there are so few validation adgroups that these judge too. */
  readonly folds: readonly (readonly number[])[];
  /** The trials that are cross-fitted when all have ended, if there are folds and time. */
  readonly crossFitted: (record: SweepRecord) => string[];
  /**
   * The trials that are tried at the end, made of those that reached it. Each function is given the record with the scores of
   * what the ones before it made, and the trials that have a checkpoint.
   */
  readonly derived: readonly ((record: SweepRecord, kept: readonly Trial[]) => Trial[])[];
  readonly choose: (record: SweepRecord) => ChosenTrial;
}

export async function sweepTrials(
  planned: PlannedSweep,
  store: TaskStore,
  request: Omit<SweepOrder, 'config'>,
  context: RunContext,
): Promise<SweepRecord> {
  const { sweep, base, search } = planned;
  const segment = sweep.segment ?? null;
  const validation = await readValidationRows(store, base.data.store, segment, search?.scored);
  const folds = await rowsOfFolds(store, search);
  const plan = planOf(planned, store, { validation, folds });
  const output = objectStoreOf(base, sweep.output, context);
  const files = search === undefined ? SWEEP_FILES : AUTO_FILES;
  const journal = await openSweepJournal(output, emptyRecord(plan), { ...request, ...files });
  const runId = runNameOf(sweep.sweep);
  const { concurrentTrials } = sweep;
  const searchWork = { runId, mayTrain: false, trainingsAtOnce: concurrentTrials };
  const { dispatcher } = await dispatchForRun(base, searchWork, request, context);
  const data = { store, validation, folds, concurrentTrials };
  const work = trialWork(plan, data, dispatcher, context);
  // The journal fences a coordinator off that has lost the claim.
  const claim = await claimedPlace(base, { run: runId, address: sweep.output }, context);
  if (claim !== null) context.onClose(() => claim.release());
  // A checkpoint of an earlier sweep beyond a rung would be scored in place of the rung.
  if (request.fresh) await discardEarlierTrials(output);
  await writeTrialConfigs(plan, base, output);
  await journal.save(journal.record);
  const save = async (record: SweepRecord): Promise<void> => {
    await journal.save(record);
    await output.put(files.page, Buffer.from(asPage(sweepDocument(record))), { kind: 'always' });
  };
  const finished = await runSweep({
    ...work,
    record: beforeEnd(journal.record),
    concurrentTrials,
    trialsKept: sweep.trialsKept,
    ...(search === undefined ? {} : { mayBegin: search.mayBegin }),
    save,
    sink: context.sink,
    signal: context.signal,
  });
  const deriving = { base, output, data, dispatcher, save, context };
  const fitted = await withCrossFitting(finished, search?.crossFitted(finished) ?? [], {
    ...{ work, save, signal: context.signal },
  });
  const { scored, whole } = await withDerivedTrials({ finished: fitted, plan, search }, deriving);
  const [first] = rankedTrials(scored);
  if (first === undefined) throw new Error('a finished sweep has trials');
  const chosen = search?.choose(scored) ?? { trial: first };
  const ofAll = trialWork(whole, data, dispatcher, context);
  const ended =
    search === undefined ? scored : await withKeptChoice(scored, chosen.trial, ofAll, context);
  const { trial, yaml, ...score } = bestOf(recordNamed(ended, chosen.trial.name), whole, base);
  await output.put('best.yaml', Buffer.from(yaml), { kind: 'always' });
  const config = joinAddress(sweep.output, 'best.yaml');
  const compared = 'compared' in chosen ? { compared: [...chosen.compared] } : {};
  const best = { trial, ...score, config, ...compared };
  // In the order of fields that its file has.
  const record = SweepRecordSchema.parse({ ...ended, best });
  await save(record);
  // Kept until the choice was made. A derived trial is made again from others.
  const kept = trialsBehind(chosen.trial, ended);
  if (search !== undefined)
    for (const { name } of whole.trials) if (!kept.includes(name)) await ofAll.discard(name);
  for (const { name } of whole.trials) await ofAll.discardFolds(name);
  context.sink({ kind: 'report-written', address: joinAddress(sweep.output, files.page) });
  return record;
}

interface JudgingRows {
  readonly validation: FlatRows;
  readonly folds: readonly FlatRows[];
}

function planOf(
  { sweep, trials, rungs, search }: PlannedSweep,
  { digest }: TaskStore,
  { validation, folds }: JudgingRows,
): SweepPlan {
  return {
    ...{ sweep: sweep.sweep, base: sweep.base, trials, rungs },
    storeDigest: digest,
    segment: sweep.segment ?? null,
    loss: wordsOf(validation).loss,
    ...scoringPart(sweep, at(trials, 0).config, validation),
    ...(search === undefined ? {} : { search: searchPart(search, { validation, folds }) }),
  };
}

/** The trial, and those that it is made of. */
function trialsBehind(trial: TrialRecord, record: SweepRecord): string[] {
  const { name, averageOf = [], shiftOf } = trial;
  const shifted = record.trials.find((each) => each.name === shiftOf);
  return [name, ...averageOf, ...(shifted === undefined ? [] : trialsBehind(shifted, record))];
}

function recordNamed({ trials }: SweepRecord, name: string): TrialRecord {
  const trial = trials.find((each) => each.name === name);
  if (trial === undefined) throw new Error(`no trial ${name}`);
  return trial;
}

/**
 * The record with the score of the checkpoint that the chosen trial has. A search that continues with more time may choose a trial
 * that it has discarded, which is trained again: to the same bits on the same kind of machine, and elsewhere it is scored anew.
 */
async function withKeptChoice(
  record: SweepRecord,
  chosen: TrialRecord,
  work: Pick<ReturnType<typeof trialWork>, 'isKept' | 'runTrial'>,
  { signal }: RunContext,
): Promise<SweepRecord> {
  if (await work.isKept(chosen)) return record;
  const { name } = chosen;
  const outerSteps = record.rungs.at(-1)?.outerSteps ?? 0;
  const { spentMs: _again, ...found } = await work.runTrial(name, outerSteps, signal);
  if (found.metaDigest === chosen.scores.at(-1)?.metaDigest) return record;
  return withLatestScore(record, name, (score) => ({ ...score, outerSteps, ...found }));
}

interface Deriving {
  readonly base: RunConfig;
  readonly output: ObjectStore;
  readonly data: Parameters<typeof trialWork>[1];
  readonly dispatcher: Parameters<typeof trialWork>[2];
  readonly save: (record: SweepRecord) => Promise<void>;
  readonly context: RunContext;
}

interface EndedTrials {
  readonly finished: SweepRecord;
  readonly plan: SweepPlan;
  /** Absent in a sweep, which derives nothing. */
  readonly search: TrialSearch | undefined;
}

/** The record and the plan with the derived trials of a search, which are scored one after the other: nothing is trained. */
async function withDerivedTrials(
  { finished, plan, search }: EndedTrials,
  deriving: Deriving,
): Promise<{ readonly scored: SweepRecord; readonly whole: SweepPlan }> {
  const { data, dispatcher, context } = deriving;
  const work = trialWork(plan, data, dispatcher, context);
  const kept: Trial[] = [];
  for (const trial of plan.trials)
    if (await work.isKept(recordNamed(finished, trial.name))) kept.push(trial);
  let scored = finished;
  const derived: Trial[] = [];
  for (const derivedOf of search?.derived ?? []) {
    const trials = derivedOf(scored, [...kept, ...derived]);
    scored = await withScoredTrials(scored, { ...plan, trials }, deriving);
    derived.push(...trials);
  }
  return { scored, whole: { ...plan, trials: [...plan.trials, ...derived] } };
}

async function withScoredTrials(
  before: SweepRecord,
  plan: SweepPlan,
  { base, output, data, dispatcher, save, context }: Deriving,
): Promise<SweepRecord> {
  const work = trialWork(plan, data, dispatcher, context);
  const rungIndex = plan.rungs.length - 1;
  await writeTrialConfigs(plan, base, output);
  let scored = withTrials(before, plan.trials);
  for (const { name } of plan.trials) {
    // An earlier end of this search may have made another trial under the name.
    await work.discard(name);
    const score = await work.runTrial(name, 0, context.signal);
    scored = withScore(scored, name, { rungIndex, outerSteps: 0, ...score });
    if (isCrossFitted(before))
      scored = withTrainingLosses(scored, name, await work.crossFit(name, context.signal));
    await save(scored);
    const { validationLogloss: validationLoss } = score;
    context.sink({
      ...{ kind: 'trial-scored', trial: name, outerStep: 0, loss: plan.loss, validationLoss },
    });
  }
  return scored;
}

const SWEEP_FILES = { recordKey: 'sweep.json', page: 'sweep.html' } as const;
const AUTO_FILES = { recordKey: 'auto.json', page: 'auto.html' } as const;

/** The query rows of training tasks that judge trials beside few validation tasks. */
function rowsOfFolds(store: TaskStore, search: TrialSearch | undefined): Promise<FlatRows[]> {
  const folds = search?.folds ?? [];
  return Promise.all(folds.map((fold) => readFlatRows(store, fold, 'query')));
}

function searchPart(
  { budgetMinutes }: TrialSearch,
  { validation, folds }: JudgingRows,
): NonNullable<SweepRecord['search']> {
  const trainingImpressions = folds.flatMap((fold) => [...adgroupImpressions(fold)]);
  return {
    ...{ budgetMinutes, impressions: [...adgroupImpressions(validation)] },
    ...(folds.length === 0 ? {} : { trainingImpressions }),
  };
}

function scoringPart(
  { score }: PlannedSweep['sweep'],
  base: RunConfig,
  validation: FlatRows,
): Pick<SweepPlan, 'criterion' | 'cellsPerTrial' | 'scoringArms'> {
  if (score === undefined)
    return {
      criterion: validationCriterionOf(validation),
      cellsPerTrial: validationCells(base).length,
    };
  return {
    criterion: armsCriterionOf(validation, score.arms),
    cellsPerTrial: settingsTried(base, score.arms),
    scoringArms: score.arms,
  };
}

/** Deletes the trial checkpoints of whatever sweep used this output before. */
async function discardEarlierTrials(output: ObjectStore): Promise<void> {
  for (const key of await output.list('trials/'))
    if (/^trials\/[ast]\d+\/(folds\/f\d+\/)?checkpoints\//.test(key)) await output.delete(key);
}

/** Writes a config for each trial, which `train --resume` and `evaluate` accept. */
async function writeTrialConfigs(
  { trials, sweep }: SweepPlan,
  base: RunConfig,
  output: ObjectStore,
): Promise<void> {
  for (const { name, config } of trials) {
    const yaml = trialYaml(config, base, `Trial ${name} of sweep ${sweep}.`);
    await output.put(`trials/${name}/run.yaml`, Buffer.from(yaml), { kind: 'always' });
  }
}

/** The config that the sweep used, but with as many checkpoints kept as the base config asks for. */
function trialYaml(config: RunConfig, base: RunConfig, comment: string): string {
  const { checkpointsKept } = base.training;
  return runConfigYaml({ ...config, training: { ...config.training, checkpointsKept } }, comment);
}

interface BestTrial extends Omit<NonNullable<SweepRecord['best']>, 'config' | 'compared'> {
  /** Its config. */
  readonly yaml: string;
}

function bestOf(best: TrialRecord, plan: SweepPlan, base: RunConfig): BestTrial {
  const score = best.scores.at(-1);
  if (score === undefined) throw new Error('a finished sweep has scores');
  const { validationLogloss, cell, arm } = score;
  if (validationLogloss === null || cell === null) throw new Error('the best trial diverged');
  const comment =
    `The best trial of sweep ${plan.sweep} (${best.name}): validation ${plan.loss} ${validationLogloss.toFixed(5)}.\n` +
    'Its output holds the trained checkpoint; change run and output to train it again.';
  const yaml = trialYaml(trialNamed(plan, best.name).config, base, comment);
  const ofArm = arm === undefined ? {} : { arm };
  return { trial: best.name, validationLogloss, cell, ...ofArm, yaml };
}

/** The data that all trials are trained and scored on. */
interface TrialData {
  /** The store as prepared, because each trial has a model of its own. */
  readonly store: TaskStore;
  readonly validation: FlatRows;
  /** Training tasks by fold, which judge the trials of a search beside few validation adgroups. */
  readonly folds: readonly FlatRows[];
  /** Trials that run at once. */
  readonly concurrentTrials: number;
}

interface TrainedTrial {
  readonly outerStep: number;
  readonly metaParameters: MetaParameters;
}

interface TrialWork extends Pick<SweepOptions, 'runTrial' | 'discard'> {
  /** The losses on the training tasks of all folds. The models without a fold stay until `discardFolds`. */
  crossFit(name: string, signal: AbortSignal): Promise<number[]>;
  discardFolds(name: string): Promise<void>;
  /**
   * True if the latest checkpoint of the trial is that of its latest score: not discarded, nor on the way there, nor trained
   * again on a kind of machine that makes another model of it.
   */
  isKept(trial: Pick<TrialRecord, 'name' | 'scores'>): Promise<boolean>;
}

export function trialWork(
  plan: SweepPlan,
  { store, validation, folds, concurrentTrials }: TrialData,
  dispatcher: Dispatcher,
  context: RunContext,
): TrialWork {
  const ofAll = { stage: 'outer steps of all trials', total: outerStepTotal(plan.rungs) };
  const sink = sweepSink(context.sink, ofAll);
  // All models are checked first: one that does not fit the store is refused before training starts.
  const runs = new Map(plan.trials.map(({ name, config }) => [name, preparedRunOn(store, config)]));
  const runOf = (name: string): PreparedRun => {
    const run = runs.get(name);
    if (run === undefined) throw new Error(`no trial ${name}`);
    return run;
  };
  const { clock } = context;
  const trained = trialTraining(dispatcher, context, sink);
  const discardFolds = async (name: string): Promise<void> => {
    const run = runOf(name);
    for (const foldIndex of folds.keys())
      await discardCheckpoints({ ...run, config: configWithoutFold(run.config, foldIndex) });
  };
  return {
    async runTrial(name, rungOuterSteps, signal): Promise<FoundScore> {
      const run = runOf(name);
      const stopAtOuterStep = Math.min(rungOuterSteps, run.config.training.outerSteps);
      const startedMs = clock.monotonicMs();
      let state = await trained(run, stopAtOuterStep, signal);
      if (state.outerStep > stopAtOuterStep) {
        const { outerStep } = state;
        sink(trialRetrained(name, outerStep, stopAtOuterStep));
        await discardCheckpoints(run);
        state = await trained(run, stopAtOuterStep, signal);
      }
      const scored = { ...run, dispatcher, signal };
      const { metaParameters, outerStep } = state;
      // A trial that ends before the rung does, or stops early, stands there with what it has become.
      const ended = outerStep < rungOuterSteps ? { outerSteps: outerStep } : {};
      if (plan.scoringArms !== undefined) {
        const { taskIndices } = validation;
        const found = await scoreArms(scored, metaParameters, taskIndices, plan.scoringArms);
        const { validation: _summary, ...score } = found;
        return { ...score, ...ended };
      }
      if (plan.search === undefined) {
        const found = await validationScore(scored, metaParameters, validation);
        const { heldOutLosses: _byAdgroup, ...score } = found;
        return { ...score, ...ended };
      }
      const { heldOutLosses, ...score } = await validationScore(
        ...([scored, metaParameters, validation] as const),
        { isAsServed: true },
      );
      const spentMs = (clock.monotonicMs() - startedMs) / concurrentTrials;
      const validationLogloss = sumOf(heldOutLosses) / sumOf(validation.impressions);
      return { ...score, ...ended, validationLogloss, adgroupLosses: [...heldOutLosses], spentMs };
    },
    crossFit: (name, signal) =>
      crossFitted(name, { ...runOf(name), dispatcher, signal }, folds, context),
    discardFolds: (name) => discardFolds(name),
    discard: async (name) => {
      await discardCheckpoints(runOf(name));
      await discardFolds(name);
    },
    isKept: ({ name, scores }) => hasCheckpointOf(scores.at(-1), runOf(name), context),
  };
}

function crossFitted(
  name: string,
  run: ScoredRun,
  folds: readonly FlatRows[],
  context: RunContext,
): Promise<number[]> {
  const { dispatcher, signal, config } = run;
  const { outerSteps } = config.training;
  const stage = `outer steps of ${name} without a fold`;
  const sink = sweepSink(context.sink, { stage, total: folds.length * outerSteps });
  const trained = trialTraining(dispatcher, context, sink);
  return crossFittedLosses(run, folds, async (ofFold) => {
    const { metaParameters } = await trained(ofFold, outerSteps, signal);
    return metaParameters;
  });
}

type TrainTrial = (
  run: PreparedRun,
  stopAtOuterStep: number,
  signal: AbortSignal,
) => Promise<TrainedTrial>;

/** @param sink hears what happens to trials beside their records. */
function trialTraining(
  dispatcher: Dispatcher,
  context: RunContext,
  sink: RunEventSink,
): TrainTrial {
  const { clock } = context;
  return (run, stopAtOuterStep, signal) =>
    recorded(run, { ...context, sink }, async (ofTrial) => {
      const startFrom = await startFromRun(run, { resume: true }, context);
      const validationLoss = validationLossOf({ ...run, dispatcher, signal });
      const { state, metaParameters } = await train({
        run,
        dispatcher,
        ...(validationLoss === undefined ? {} : { validationLoss }),
        checkpoints: checkpointsOf(run, { ...context, sink: ofTrial }),
        start: { resume: true, ...(startFrom === null ? {} : { startFrom }) },
        stopAtOuterStep,
        caller: { clock, sink: ofTrial, signal },
      });
      return { outerStep: state.outerStep, metaParameters };
    });
}

/** The record of a trial, in its own output: the events of its training, and how that ended. */
async function recorded<Result>(
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

export function trialNamed({ trials }: SweepPlan, name: string): Trial {
  const trial = trials.find((each) => each.name === name);
  if (trial === undefined) throw new Error(`no trial ${name}`);
  return trial;
}

async function hasCheckpointOf(
  score: TrialScore | undefined,
  run: PreparedRun,
  context: RunContext,
): Promise<boolean> {
  const latest = await latestManifestOf(checkpointStoreOf(run));
  if (latest === null || score === undefined || latest.outerStep !== score.outerSteps) return false;
  return score.metaDigest === (await chosenDigestOf(run, context));
}

/** The digest of all values of the parameters that the run ended with, whatever that of its checkpoint covers. */
async function chosenDigestOf(run: PreparedRun, context: RunContext): Promise<string | null> {
  const manifest = await chosenManifestOf(checkpointStoreOf(run));
  if (manifest?.digestOf === undefined) return manifest?.metaParametersDigest ?? null;
  const saved = await savedMetaParametersOf(run, context);
  return saved === null ? null : metaParametersDigest(saved.trained);
}

function checkpointStoreOf({ config }: PreparedRun): ObjectStore {
  return objectStoreOf(config, joinAddress(config.output, 'checkpoints'));
}

/** Removes the pointer first, so that an interrupted removal leaves no checkpoint. */
async function discardCheckpoints(run: PreparedRun): Promise<void> {
  const checkpoints = checkpointStoreOf(run);
  await checkpoints.delete(LATEST_KEY);
  for (const key of await checkpoints.list('')) await checkpoints.delete(key);
}

/** 2 MiB: some 2,000 outer steps, the last ones of a longer trial. */
const TRIAL_LOG_BOUNDS = { segmentByteCountMax: 1024 * 1024, segmentCountMax: 2 };

/** Events of a single trial, which the sweep replaces by the progress of all trials and by what became of it. */
const TRIAL_COURSE: ReadonlySet<EventKind> = new Set([
  'run-started',
  'outer-step',
  'checkpoint',
  'run-finished',
  'run-failed',
]);

function sweepSink(
  sink: RunEventSink,
  { stage, total }: { readonly stage: string; readonly total: number },
): RunEventSink {
  let done = 0;
  return (event, source) => {
    if (event.kind === 'outer-step') {
      done += 1;
      // The networks of an average may train beyond the plan.
      sink({ kind: 'progress', stage, done, total: Math.max(done, total) });
    }
    if (!TRIAL_COURSE.has(event.kind)) sink(event, source);
  };
}

function trialRetrained(
  trial: string,
  outerStep: number,
  scoredOuterStep: number,
): RunEventOf<'warning'> {
  return warningEvent(
    'trial-retrained',
    `${trial} was trained to outer step ${outerStep} outside the sweep, which scores it at ` +
      `${scoredOuterStep}: it is trained again`,
  );
}
