/** The parts of a training under way, opened together and closed together. */

import type { TaskOrder } from '../dispatch/dispatcher.js';
import { encodeFrozen } from '../plan/row-pack-gather.js';
import { type StepPlan, stepPlanner } from '../plan/step-plan.js';
import type { RunTables } from './run-tables.js';
import type { TrainingState } from '../checkpoints/training-state.js';
import { earlyStopping, type EarlyStopping } from './early-stopping.js';
import { GradientNorms, stepClosings, type StepClosings } from './step-closing.js';
import { assertTrainable } from './meta-optimizer/stages.js';
import { poisonTasks } from './poison-tasks.js';
import { checkpointWriter, type CheckpointWriter, startedTraining } from './run-checkpoints.js';
import { runLength, type RunLength } from './run-length.js';
import { stepPipeline, type StepPipeline } from './step-pipeline.js';
import { stepReport, StepTimes } from './step-report.js';
import type { StepSum } from './step-sum.js';
import type { TrainOptions } from './train-options.js';
import type { ComputeConfig } from '../../shared/config/compute-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';

export interface OpenTraining {
  /** The state that the training starts from. */
  readonly state: TrainingState;
  readonly pipeline: StepPipeline;
  readonly tables: RunTables;
  readonly checkpoints: CheckpointWriter;
  readonly length: RunLength;
  readonly closings: StepClosings;
  readonly stopping: EarlyStopping;
  readonly norms: GradientNorms;
  readonly times: StepTimes;
  /** The kind of machine that computes the run; null before the first result of a new one. */
  readonly fingerprint: () => string | null;
  noteFingerprint(fingerprint: string): void;
  /** The state with the length that people have asked for, in a checkpoint if that has changed. */
  withLatestCommands(state: TrainingState): Promise<TrainingState>;
  /**
   * Returns the state from which the outer step is taken again after a failure.
   *
   * @throws the failure if the step cannot be taken again
   */
  settleFailure(
    error: unknown,
    orders: readonly TaskOrder[],
    state: TrainingState,
  ): Promise<TrainingState>;
  report(state: TrainingState, plan: StepPlan, sum: StepSum): void;
  /** The state with its score on validation adgroups, if that is due. */
  withScore(state: TrainingState): Promise<TrainingState>;
  checkpointWhenDue(state: TrainingState): Promise<void>;
  /** Takes all jobs back and waits for what is being written and read. */
  close(): Promise<void>;
}

/** @throws QianmoError as `train` does. */
export async function openTraining(options: TrainOptions): Promise<OpenTraining> {
  const { run, caller } = options;
  const { config, spec, store } = run;
  assertTrainable(spec, config.training.trainable, config.method.kind);
  const { state: found, tables } = await startedTraining(options);
  const times = new StepTimes(caller);
  const checkpoints = checkpointWriter(options, found, tables, times);
  const length = runLength(options);
  const frozen = encodeFrozen(found.metaParameters, spec, config.queue.frozenTablesByteCountMax);
  const planner = stepPlanner(config, store, length.endOf(found), frozen?.holdsTables !== true);
  const reportStep = stepReport(run, caller, found);
  const poison = poisonTasks(options);
  const closings = stepClosings(options);
  const stopping = earlyStopping(options);
  let fingerprint = demandedFingerprint(config.compute, found, caller.sink);
  let latest = found;
  const pipeline = stepPipeline(options, {
    ...{ planner, tables, frozen, closings, length, times },
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
    ...{ state, pipeline, tables, checkpoints, length, closings, stopping, times },
    norms: new GradientNorms(config.trust),
    fingerprint: () => fingerprint,
    noteFingerprint: (computedOn) => {
      fingerprint = computedOn;
    },
    async withLatestCommands(before) {
      latest = await length.withLatestCommands(before);
      // A resume must know of an extension.
      if (latest !== before && pipeline.isResumable(latest)) await checkpoints.write(latest);
      return latest;
    },
    async settleFailure(error, orders, before) {
      const settled = await poison.settle(error, orders, before);
      if (settled !== before) await pipeline.recall();
      return settled;
    },
    report: reportStep,
    async withScore(reached) {
      latest = reached;
      return (latest = await stopping.scored(reached, writeInPause));
    },
    async checkpointWhenDue(reached) {
      const { checkpointEveryOuterSteps } = config.training;
      if (stopping.isScored(reached) || reached.outerStep % checkpointEveryOuterSteps === 0)
        await checkpoints.begin(reached);
      times.report(reached.outerStep);
    },
    async close() {
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
