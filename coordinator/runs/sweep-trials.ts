/** Trains, scores and discards the trials of a sweep. Each is a run of its own, on a shared dispatcher. */

import { configWithoutFold } from '../auto/cross-fitting.js';
import { LATEST_KEY } from '../checkpoints/checkpoint-manifest.js';
import { chosenManifestOf, latestManifestOf } from '../checkpoints/latest-manifest.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import { sumOf } from '../scoring/metrics.js';
import type { FlatRows } from '../scoring/held-out-rows.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { validationLossOf } from '../evaluation/validation-loss.js';
import { scoreArms } from '../evaluation/arms-score.js';
import { validationScore, type ScoredRun } from '../evaluation/validation-score.js';
import type { FoundScore, SweepOptions } from '../sweep/run-sweep.js';
import { outerStepTotal } from '../sweep/rungs.js';
import type { SweepPlan, TrialRecord, TrialScore } from '../sweep/sweep-record.js';
import type { Trial } from '../sweep/trials.js';
import { train } from '../training/outer-loop.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import {
  type EventKind,
  type RunEventSink,
  warningEvent,
  type RunEventOf,
} from '../../shared/events/run-events.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { crossFittedLosses } from '../auto/cross-fitted-losses.js';
import type { RunContext } from './call/run-context.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import {
  checkpointsOf,
  joinAddress,
  objectStoreOf,
  preparedRunOn,
  savedMetaParametersOf,
} from './run-files.js';
import { startFromRun } from './start-from-run.js';

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
