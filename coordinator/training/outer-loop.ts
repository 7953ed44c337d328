/**
 * The outer loop of a run: sample, deliver, sum, step, checkpoint. The loop decides and waits; everything it calls
 * computes and returns. It knows no queue and no vendor.
 */

import { computedOnAfter, type TrainingState } from '../checkpoints/training-state.js';
import { chosenOf } from './early-stopping.js';
import { resumableFailure } from './run-checkpoints.js';
import { StepSum } from './step-sum.js';
import type { TrainingOutcome, TrainOptions } from './train-options.js';
import { openTraining, type OpenTraining } from './open-training.js';

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
  const training = await openTraining(options);
  const { pipeline, length, stopping, checkpoints } = training;
  let { state } = training;
  try {
    for (;;) {
      state = await training.withLatestCommands(state);
      if (state.outerStep >= length.endOf(state) || stopping.isOver(state)) break;

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
      state = await training.withScore(state);
      await training.checkpointWhenDue(state);
    }
    length.markEnded(state);
    stopping.reportEnd(state, length.endOf(state));
    return await finish(state, options, checkpoints);
  } catch (error) {
    // An extension may have been ordered since the last outer step began.
    const stopped = {
      state: length.withExtension(state),
      isResumable: pipeline.isResumable(state),
    };
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

async function finish(
  state: TrainingState,
  { checkpoints: stored, caller }: Pick<TrainOptions, 'checkpoints' | 'caller'>,
  checkpoints: OpenTraining['checkpoints'],
): Promise<TrainingOutcome> {
  const receipt = await checkpoints.write(state);
  const { outerStep, metaParameters } = state;
  const chosen = await chosenOf(state, { ...receipt, metaParameters }, stored);
  const { address, digest } = chosen;
  caller.sink({ kind: 'run-finished', outerStep, address, digest });
  return { state, metaParameters: chosen.metaParameters, address, digest, outerSteps: outerStep };
}
