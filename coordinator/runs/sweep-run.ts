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
import { armsCriterionOf, demandOwnArm, settingsTried } from '../evaluation/arms-score.js';
import {
  readValidationRows,
  validationCells,
  validationCriterionOf,
} from '../evaluation/validation-score.js';
import type { ChosenTrial } from '../auto/choose-trial.js';
import { asPage } from '../reports/document/as-page.js';
import { sweepDocument } from '../reports/sweep-document.js';
import { wordsOf } from '../reports/verdicts.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import { isCrossFitted } from '../sweep/safe-trials.js';
import { runSweep, type SweepOptions } from '../sweep/run-sweep.js';
import { rungsOf } from '../sweep/rungs.js';
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
} from '../sweep/sweep-record.js';
import { outerStepsOf, planTrials, runNameOf, type Trial } from '../sweep/trials.js';
import { placeOf, sweepConfigOf } from './config-sources.js';
import { withCrossFitting } from '../auto/cross-fitted-losses.js';
import { dispatchForRun } from './dispatch-for-run.js';
import { interruptedAs } from './call/interruption.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import { configReaderOf } from './places.js';
import type { SweepRequestSchema } from './requests.js';
import type { RunContext } from './call/run-context.js';
import { claimedPlace, joinAddress, objectStoreOf, openStoreAsPrepared } from './run-files.js';
import { trialNamed, trialWork } from './sweep-trials.js';

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
