/**
 * The outer loop of a run: sample, dispatch, aggregate, step, checkpoint, report. The loop decides
 * and waits; everything it calls computes and returns. It knows no queue and no vendor.
 */

import type { GradientAggregate } from './gradient-aggregate.js';
import { GradientNorms } from './gradient-norms.js';
import { MetaGradientSum } from './meta-gradient-sum.js';
import { microBatchWatch } from './micro-batch-watch.js';
import { chosenOf, earlyStopping } from './early-stopping.js';
import { runLength } from './run-length.js';
import { requireTrainable } from './meta-optimizer/trainable.js';
import { RobustAggregate } from './robust-aggregate.js';
import { poisonTasks } from './poison-tasks.js';
import type { CheckpointReceipt } from '../checkpoints/saved-parameters.js';
import { computedOnAfter, type TrainingState } from '../checkpoints/training-state.js';
import { checkpointWriter, resumableFailure, startedTraining } from './run-checkpoints.js';
import { demandedFingerprint } from './run-fingerprint.js';
import { encodeFrozen } from '../plan/row-pack-gather.js';
import { stepClosings } from './step-closing.js';
import { stepPipeline } from './step-pipeline.js';
import { stepReport } from './step-report.js';
import { StepTimes } from './step-times.js';
import { stepPlanner } from '../plan/step-plan.js';
import type { RunTables } from '../tables/run-tables.js';
import type { TrainingOutcome, TrainOptions } from './train-options.js';

/**
 * Trains from the starting state to the last outer step, or to `stopAtOuterStep`, and writes the
 * last checkpoint. A failure or Ctrl-C loses only the outer step under way: the last complete one
 * is written. With staleness it loses those since the last checkpoint. A pause, which may last, writes the last complete
 * outer step where a resume could begin there.
 *
 * @throws QianmoError `interrupted` when the signal aborted, `usage` when a checkpoint of this
 *   run exists and neither `resume` nor `fresh` is set. Errors of dispatcher, store and checkpoints
 *   pass.
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  const { run, caller } = options;
  const { config, spec, store } = run;
  const { checkpointEveryOuterSteps } = config.training;
  requireTrainable(spec, config.training.trainable, config.method.kind);
  const started = await startedTraining(options);
  let { state } = started;
  const times = new StepTimes(caller);
  const checkpoints = checkpointWriter(options, state, started.tables, times);
  const length = runLength(options);
  const frozen = encodeFrozen(state.metaParameters, spec, config.queue.frozenTablesByteCountMax);
  const planner = stepPlanner(config, store, length.endOf(state), frozen?.holdsTables !== true);
  const report = stepReport(run, caller, state);
  const sum = aggregateOf(run);
  const poison = poisonTasks(options);
  const closings = stepClosings(options);
  const stopping = earlyStopping(options);
  const norms = new GradientNorms(config.trust);
  const watchMicroBatches = microBatchWatch(config.training.microBatchRowsMax, caller.sink);
  const onHeldBack = (): Promise<void> => writeInPause(state, pipeline, checkpoints);
  let fingerprint = demandedFingerprint(config.compute, state, caller.sink);
  const pipeline = stepPipeline(options, {
    ...{ planner, tables: started.tables, frozen, closings, length, times },
    ...{ fingerprint: () => fingerprint, onHeldBack },
  });
  try {
    state = await withMissingScore(state, stopping, checkpoints);
    for (;;) {
      const heeded = await length.heeded(state);
      // A resume must know of an extension.
      if (heeded !== state && pipeline.isResumable(heeded)) await checkpoints.write(heeded);
      state = heeded;
      if (state.outerStep >= length.endOf(state) || stopping.isOver(state)) break;

      const { plan, orders, layouts, weights, gradients } = await pipeline.oldest(state);
      sum.begin(layouts, weights);
      try {
        for await (const { result, value: gradient } of gradients(norms)) {
          watchMicroBatches(result);
          // The same for all: the dispatcher admits results of one kind of machine.
          fingerprint = result.fingerprint;
          times.took('aggregate', () => sum.add(gradient));
        }
        norms.requireSound();
      } catch (error) {
        const settled = await poison.settle(error, orders, state);
        if (settled !== state) await pipeline.recall();
        state = settled;
        continue;
      }
      const kept = pipeline.completeOldest();

      const closed = closings.close(sum, plan, state);
      const computedOn = computedOnAfter(state, fingerprint);
      checkpoints.demandSound();
      state = { ...(await stepped(closed, sum, started.tables, times)), computedOn, ...kept };

      report(state, plan, sum.losses);
      state = await stopping.scored(state, onHeldBack);
      if (stopping.isScored(state) || state.outerStep % checkpointEveryOuterSteps === 0)
        await checkpoints.begin(state);
      times.tell(state.outerStep);
    }
    length.ended(state);
    stopping.tellEnd(state, length.endOf(state));
    return await finished(state, await checkpoints.write(state), options);
  } catch (error) {
    // An extension may have been ordered since the last outer step began.
    const stopped = { state: length.extended(state), isResumable: pipeline.isResumable(state) };
    throw await resumableFailure(error, stopped, options, checkpoints);
  } finally {
    await pipeline.close();
    await checkpoints.settled();
    await planner.settled();
  }
}

/** A pause may last. Before the first outer step it has nothing to lose. */
async function writeInPause(
  state: TrainingState,
  pipeline: Pick<ReturnType<typeof stepPipeline>, 'isResumable'>,
  checkpoints: Pick<ReturnType<typeof checkpointWriter>, 'write'>,
): Promise<void> {
  if (state.outerStep > 0 && pipeline.isResumable(state)) await checkpoints.write(state);
}

function aggregateOf({ spec, config }: TrainOptions['run']): MetaGradientSum | RobustAggregate {
  const { aggregation } = config.training;
  return aggregation === undefined
    ? new MetaGradientSum(spec)
    : new RobustAggregate(spec, aggregation);
}

async function stepped(
  state: TrainingState,
  sum: GradientAggregate,
  tables: Pick<RunTables, 'step'>,
  times: StepTimes,
): Promise<TrainingState> {
  const metaGradient = times.took('aggregate', () => sum.metaGradient());
  return times.during('optimise', () => tables.step(state, metaGradient));
}

/** The state that a run continues from, in a checkpoint with its score if it was stopped while that was made. */
async function withMissingScore(
  state: TrainingState,
  stopping: ReturnType<typeof earlyStopping>,
  checkpoints: Pick<ReturnType<typeof checkpointWriter>, 'begin'>,
): Promise<TrainingState> {
  const resumed = await stopping.resumed(state);
  if (resumed !== state) await checkpoints.begin(resumed);
  return resumed;
}

/** @param receipt that of the last checkpoint. */
async function finished(
  state: TrainingState,
  receipt: CheckpointReceipt,
  { checkpoints, caller }: Pick<TrainOptions, 'checkpoints' | 'caller'>,
): Promise<TrainingOutcome> {
  const { outerStep, metaParameters } = state;
  const chosen = await chosenOf(state, { ...receipt, metaParameters }, checkpoints);
  const { address, digest } = chosen;
  caller.sink({ kind: 'run-finished', outerStep, address, digest });
  return { state, metaParameters: chosen.metaParameters, address, digest, outerSteps: outerStep };
}
