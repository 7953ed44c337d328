/** The parts of a training under way, opened together and closed together. */

import type { JobOrder } from '../dispatch/dispatcher.js';
import { encodeFrozen } from '../plan/row-pack-gather.js';
import { stepPlanner } from '../plan/step-plan.js';
import type { QuarantinedTask, TrainingState } from '../checkpoints/training-state.js';
import { earlyStopping, type EarlyStopping } from './early-stopping.js';
import { assertTrainable } from './meta-optimizer/stages.js';
import { checkpointWriter, startedTraining, type CheckpointWriter } from './run-checkpoints.js';
import { runLength } from './run-length.js';
import { stepPipeline, type StepPipeline } from './step-pipeline.js';
import { stepReport, StepTimes } from './step-report.js';
import type { TrainOptions } from './train-options.js';
import type { ComputeConfig } from '../../shared/config/compute-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { DivergenceError, QianmoError } from '../../shared/base/errors.js';
import { poisonTaskError, poisonTaskOf } from '../plan/poison-task.js';
import { givenUpJobOf } from '../dispatch/job-delivery.js';

export type OpenTraining = Awaited<ReturnType<typeof openTraining>>;

/** @throws QianmoError as `train` does. */
export async function openTraining(options: TrainOptions) {
  const { run, caller } = options;
  const { config, spec, store } = run;
  assertTrainable(spec, config.training.trainable, config.method.kind);
  const { state: found, tables } = await startedTraining(options);
  const times = new StepTimes(caller);
  const checkpoints: CheckpointWriter = checkpointWriter(options, found, tables, times);
  const length = runLength(options);
  const frozen = encodeFrozen(found.metaParameters, spec, config.queue.frozenTablesByteCountMax);
  const planner = stepPlanner(config, store, length.endOf(found), frozen?.holdsTables !== true);
  const report = stepReport(run, caller, found);
  const poison = poisonTasks(options);
  const stopping: EarlyStopping = earlyStopping(options);
  let fingerprint = demandedFingerprint(config.compute, found, caller.sink);
  let latest = found;
  const pipeline: StepPipeline = stepPipeline(options, {
    ...{ planner, tables, frozen, length, times },
    fingerprint: () => fingerprint,
    onHeldBack: () => writeInPause(),
  });
  /** A pause may last. Before the first outer step it has nothing to lose. */
  const writeInPause = async (): Promise<void> => {
    if (latest.outerStep > 0 && pipeline.isResumable(latest)) await checkpoints.write(latest);
  };
  const state = await stopping.resumed(found);
  // The run may have been stopped while its state was scored.
  if (state !== found) await checkpoints.begin(state);
  return {
    state,
    ...{ pipeline, tables, checkpoints, length, stopping, times, report },
    /** The kind of machine that computes the run; null before the first result of a new one. */
    fingerprint: () => fingerprint,
    noteFingerprint(computedOn: string): void {
      fingerprint = computedOn;
    },
    /** The state with the length that people have asked for, in a checkpoint if that has changed. */
    async withLatestCommands(before: TrainingState): Promise<TrainingState> {
      latest = await length.withLatestCommands(before);
      // A resume must know of an extension.
      if (latest !== before && pipeline.isResumable(latest)) await checkpoints.write(latest);
      return latest;
    },
    /**
     * Returns the state from which the outer step is taken again after a failure.
     *
     * @throws the failure if the step cannot be taken again
     */
    async settleFailure(error: unknown, orders: readonly JobOrder[], before: TrainingState) {
      const settled = await poison.settle(error, orders, before);
      if (settled !== before) await pipeline.recall();
      return settled;
    },
    /** The state with its score on validation adgroups, if that is due. */
    async withScore(reached: TrainingState): Promise<TrainingState> {
      latest = reached;
      return (latest = await stopping.scored(reached, writeInPause));
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

/**
 * Returns the fingerprint that the config demands, else the one that computed the checkpoint; null
 * for a new run, which takes that of its first result. A demand that differs from the checkpoint is
 * a change on purpose: it is reported, and the next checkpoint records it.
 */
function demandedFingerprint(
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

/**
 * Handles poison tasks: the run stops and names the task, or it goes on without it. A job that
 * no task explains is tried once more in a whole outer step.
 */

const CURE =
  'correct its rows and prepare again, or set training.poisonTasks: quarantine and continue with --resume';

interface PoisonTasks {
  /**
   * Returns the state from which the outer step is taken again: without the poison task, or unchanged
   * when there is none.
   *
   * @throws the error when it is not that of a job, or when nothing explains it twice; QianmoError
   *   `failed` that names the task when the run stops at poison tasks.
   */
  settle(error: unknown, orders: readonly JobOrder[], state: TrainingState): Promise<TrainingState>;
}

function poisonTasks({
  run: { config, store },
  dispatcher,
  caller: { sink, signal },
}: Pick<TrainOptions, 'run' | 'dispatcher' | 'caller'>): PoisonTasks {
  let unexplainedOuterStep: number | null = null;
  return {
    settle: async (error, orders, state) => {
      if (!(error instanceof QianmoError) || signal.aborted) throw error;
      const found = await poisonTaskOf(error, orders, { dispatcher, store, signal });
      if (found === null) {
        const isFinal = error instanceof DivergenceError || givenUpJobOf(error) === null;
        if (isFinal || unexplainedOuterStep === state.outerStep) throw error;
        unexplainedOuterStep = state.outerStep;
        return state;
      }
      const { outerStep } = state;
      if (config.training.poisonTasks === 'stop') throw poisonTaskError(found, error, CURE);
      const { taskIndex, key, description, reason } = found;
      sink({ kind: 'task-quarantined', outerStep, taskIndex, task: description, reason });
      const quarantined: QuarantinedTask = { outerStep, taskIndex, key };
      return { ...state, quarantinedTasks: [...(state.quarantinedTasks ?? []), quarantined] };
    },
  };
}
