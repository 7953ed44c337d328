/**
 * The outer loop of a run: sample, deliver, sum, step, checkpoint. The loop decides and waits; everything it calls
 * computes and returns. It knows no queue and no vendor.
 */

import {
  computedOnAfter,
  outerStepsOf,
  type QuarantinedTask,
  type TrainingState,
  bestOf,
} from '../checkpoints/checkpoint-manifest.js';
import type { JobOrder } from '../dispatch/dispatcher.js';
import { givenUpJobOf } from '../dispatch/job-delivery.js';
import { poisonTaskError, poisonTaskOf } from '../plan/poison-task.js';
import { encodeFrozen } from '../plan/step-orders.js';
import { stepPlanner } from '../plan/step-plan.js';
import { DivergenceError, QianmoError } from '../../shared/base/errors.js';
import type { ComputeConfig } from '../../shared/config/compute-config.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { earlyStopping } from './early-stopping.js';
import { assertTrainable } from './meta-optimizer.js';
import { checkpointWriter, resumableFailure, startedTraining } from './run-checkpoints.js';
import { stepPipeline } from './step-pipeline.js';
import { stepReport, StepTimes } from './step-report.js';
import { StepSum } from './step-sum.js';
import type { TrainingOutcome, TrainOptions } from './train-options.js';

/**
 * Trains from the starting state to the last outer step, or to `stopAtOuterStep`, and writes the
 * last checkpoint. A failure or Ctrl-C loses only the outer step under way: the last complete one
 * is written. With staleness it loses those since the last checkpoint.
 *
 * @throws QianmoError `interrupted` when the signal aborted, `usage` when a checkpoint of this
 *   run exists and neither `resume` nor `fresh` is set. Errors of dispatcher, store and checkpoints
 *   pass.
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  const training = await openTraining(options);
  const { pipeline, checkpoints } = training;
  let { state } = training;
  try {
    while (!training.isOver(state)) {
      const { plan, orders, deliveries } = await pipeline.oldest(state);
      const sum = new StepSum(options.run.spec, plan);
      const failure = await collect(training, sum, deliveries);
      if (failure !== null) {
        state = await training.settleFailure(failure.error, orders, state);
        continue;
      }
      pipeline.completeOldest();

      state = takeStep(training, sum, state);
      training.report(state, plan, sum);
      state = await training.stopping.scored(state);
      await training.checkpointWhenDue(state);
    }
    return await finish(training, state, options);
  } catch (error) {
    const stopped = { state, isResumable: pipeline.isResumable(state) };
    throw await resumableFailure(error, stopped, options, checkpoints);
  } finally {
    await training.close();
  }
}

/** Adds the sums of an outer step as they arrive. Returns the failure that kept it from ending, if any. */
async function collect(
  training: OpenTraining,
  sum: StepSum,
  deliveries: Awaited<ReturnType<OpenTraining['pipeline']['oldest']>>['deliveries'],
): Promise<{ readonly error: unknown } | null> {
  try {
    for await (const { result, value } of deliveries()) {
      // All results have the same one: the dispatcher admits results of one kind of machine.
      training.noteFingerprint(result.fingerprint);
      training.times.took('aggregate', () => sum.add(value));
    }
    return null;
  } catch (error) {
    return { error };
  }
}

function takeStep(
  { checkpoints, times, tables, fingerprint }: OpenTraining,
  sum: StepSum,
  state: TrainingState,
): TrainingState {
  const computedOn = computedOnAfter(state, fingerprint());
  checkpoints.assertNoFailure();
  const metaGradient = times.took('aggregate', () => sum.metaGradient());
  return {
    ...times.took('optimise', () => tables.step(state, metaGradient)),
    computedOn,
  };
}

/** Writes the last checkpoint. The outcome has the parameters with the lowest validation loss, if steps were scored. */
async function finish(
  { checkpoints, stopping, endOuterStep }: OpenTraining,
  state: TrainingState,
  { checkpoints: stored, caller }: TrainOptions,
): Promise<TrainingOutcome> {
  stopping.reportEnd(state, endOuterStep);
  const { outerStep, metaParameters } = state;
  const last = { ...(await checkpoints.write(state)), metaParameters };
  const best = bestOf(state.validated);
  const isLast = best === null || best.outerStep === outerStep;
  const chosen = isLast ? last : ((await stored.best?.()) ?? last);
  const { address, digest } = chosen;
  caller.sink({ kind: 'run-finished', outerStep, address, digest });
  return { state, metaParameters: chosen.metaParameters, address, digest, outerSteps: outerStep };
}

type OpenTraining = Awaited<ReturnType<typeof openTraining>>;

/**
 * Opens the parts of a training, which are closed together.
 *
 * @throws QianmoError as `train` does.
 */
async function openTraining(options: TrainOptions) {
  const { run, caller, dispatcher, stopAtOuterStep = Infinity } = options;
  const { config, spec, store } = run;
  assertTrainable(spec, config.training.trainable, config.method.kind);
  assertStopIsDrained(stopAtOuterStep, config.training);
  const { state: found, tables } = await startedTraining(options);
  const times = new StepTimes(caller);
  const checkpoints = checkpointWriter(options, found, tables, times);
  const outerSteps = outerStepsOf(found, config.training);
  const endOuterStep = Math.min(outerSteps, stopAtOuterStep);
  const frozen = encodeFrozen(found.metaParameters, spec, config.queue.frozenTablesByteCountMax);
  const planner = stepPlanner(config, store, endOuterStep, frozen?.holdsTables !== true);
  const report = stepReport(run, caller, found);
  const stopping = earlyStopping(options, async (state) => {
    await checkpoints.settled();
    const best = await options.checkpoints.best?.();
    return best === null || best === undefined
      ? state
      : tables.goBackTo(best.metaParameters, state);
  });
  let fingerprint = fingerprintToRequire(config.compute, found, caller.sink);
  const pipeline = stepPipeline(options, {
    ...{ planner, tables, frozen, endOuterStep, times },
    fingerprint: () => fingerprint,
  });
  const state = await stopping.resumed(found);
  // The run may have been stopped while its state was scored.
  if (state !== found) await checkpoints.begin(state);
  // The trials of a sweep and the global arm of an evaluation are trained under the lease of another run.
  const control = dispatcher.control?.runId === config.run ? dispatcher.control : undefined;
  return {
    ...{ state, endOuterStep, pipeline, tables, checkpoints, stopping, times, report },
    settleFailure: failureSettler(options, () => pipeline.recall()),
    /** The kind of machine that computes the run; null before the first result of a new one. */
    fingerprint: () => fingerprint,
    noteFingerprint(computedOn: string): void {
      fingerprint = computedOn;
    },
    /** Returns whether this call ends here, and tells how far the run is. */
    isOver(reached: TrainingState): boolean {
      const { outerStep } = reached;
      const isOver = outerStep >= endOuterStep || stopping.isOver(reached);
      control?.tell({ outerStep, outerSteps }, isOver);
      return isOver;
    },
    async checkpointWhenDue(reached: TrainingState): Promise<void> {
      const { checkpointEveryOuterSteps } = config.training;
      if (stopping.isScored(reached) || reached.outerStep % checkpointEveryOuterSteps === 0)
        await checkpoints.begin(reached);
      times.report(reached.outerStep);
    },
    /** Takes all jobs back and waits for what is being written and read. */
    async close(): Promise<void> {
      await pipeline.close();
      await checkpoints.settled();
      await planner.settled();
    },
  };
}

/** @throws QianmoError `usage` for a call that ends where outer steps overlap: the next ones would have other inputs. */
function assertStopIsDrained(
  stopAtOuterStep: number,
  { staleness, outerSteps }: TrainingConfig,
): void {
  if (staleness === undefined || stopAtOuterStep >= outerSteps) return;
  const { drainEveryOuterSteps } = staleness;
  if (stopAtOuterStep % drainEveryOuterSteps === 0) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'a run with staleness can only stop where its outer steps do not overlap',
    where: 'training.staleness.drainEveryOuterSteps',
    expected: `a stop at a multiple of ${drainEveryOuterSteps}`,
    found: `a stop at outer step ${stopAtOuterStep}`,
    cure: 'lower drainEveryOuterSteps, or leave out training.staleness',
  });
}

/**
 * Returns the fingerprint that the config demands, else the one that computed the checkpoint; null
 * for a new run, which takes that of its first result. A demand that differs from the checkpoint is
 * a change on purpose: it is reported, and the next checkpoint records it.
 */
function fingerprintToRequire(
  { fingerprint }: Pick<ComputeConfig, 'fingerprint'>,
  { outerStep, computedOn }: Pick<TrainingState, 'outerStep' | 'computedOn'>,
  sink: RunEventSink,
): string | null {
  const earlier = computedOn.at(-1)?.fingerprint ?? null;
  const demanded = fingerprint ?? earlier;
  if (earlier !== null && demanded !== null && demanded !== earlier)
    sink({ kind: 'fingerprint-changed', outerStep, fingerprint: demanded, earlier });
  return demanded;
}

const POISON_CURE =
  'correct its rows and prepare again, or set training.poisonTasks: quarantine and continue with --resume';

/**
 * Handles outer steps that failed. At a poison task, the run stops and names the task, or it goes on without it. A job
 * that no task explains is tried once more in a whole outer step.
 */
function failureSettler(
  { run: { config, store }, dispatcher, caller: { sink, signal } }: TrainOptions,
  recall: () => Promise<void>,
) {
  let unexplainedOuterStep: number | null = null;
  /**
   * Returns the state from which the outer step is taken again: without the poison task, or unchanged when there is
   * none.
   *
   * @throws the error when it is not that of a job, or when nothing explains it twice; QianmoError `failed` that names
   *   the task when the run stops at poison tasks.
   */
  return async (
    error: unknown,
    orders: readonly JobOrder[],
    state: TrainingState,
  ): Promise<TrainingState> => {
    if (!(error instanceof QianmoError) || signal.aborted) throw error;
    const { outerStep } = state;
    const found = await poisonTaskOf(error, orders, { dispatcher, store, signal });
    if (found === null) {
      const isFinal = error instanceof DivergenceError || givenUpJobOf(error) === null;
      if (isFinal || unexplainedOuterStep === outerStep) throw error;
      unexplainedOuterStep = outerStep;
      return state;
    }
    if (config.training.poisonTasks === 'stop') throw poisonTaskError(found, error, POISON_CURE);
    const { taskIndex, key, description, reason } = found;
    sink({ kind: 'task-quarantined', outerStep, taskIndex, task: description, reason });
    const quarantined: QuarantinedTask = { outerStep, taskIndex, key };
    await recall();
    return { ...state, quarantinedTasks: [...(state.quarantinedTasks ?? []), quarantined] };
  };
}
