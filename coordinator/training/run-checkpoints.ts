/** The start of a run, its checkpoints, and its state when it stops early. */

import { isInterruption, QianmoError } from '../../shared/base/errors.js';
import { initialMetaParameters } from '../../shared/models/initial-values.js';
import type { CheckpointReceipt } from '../checkpoints/checkpoint-writer.js';
import type { GradientTransformation } from './meta-optimizer/gradient-transformation.js';
import { stateFrom } from './start-from.js';
import type { TrainOptions } from './train-options.js';
import type { TrainingState } from '../checkpoints/training-state.js';

/**
 * Returns the latest checkpoint when resuming, else outer step 0 from the seed or from another run.
 *
 * @throws QianmoError `usage` when a checkpoint exists and neither `resume` nor `fresh` is set.
 */
export async function startingState(
  { run, checkpoints, start }: Pick<TrainOptions, 'run' | 'checkpoints' | 'start'>,
  optimizer: GradientTransformation,
): Promise<TrainingState> {
  const { config, spec } = run;
  const found = start.fresh === true ? null : await checkpoints.latest();
  if (found !== null && start.resume) return found;
  if (found !== null)
    throw new QianmoError({
      kind: 'usage',
      what:
        found.outerStep < config.training.outerSteps
          ? 'a run that was started before is there'
          : 'a finished run is there',
      where: config.output,
      found: `a checkpoint of outer step ${found.outerStep} of ${config.training.outerSteps}`,
      cure: 'give --resume to continue from it, --fresh to start again, or name another output',
    });
  if (start.startFrom !== undefined)
    return stateFrom(start.startFrom, spec, config.seed, optimizer);
  const metaParameters = initialMetaParameters(spec, config.seed);
  const initial = optimizer.init(metaParameters);
  return { outerStep: 0, metaParameters, optimizer: initial, computedOn: [] };
}

interface CheckpointWriter {
  /** Writes the state, unless it was written last. */
  write(state: TrainingState): Promise<CheckpointReceipt>;
  /** The outer step from which a resume would continue. */
  readonly durableOuterStep: number;
}

export function checkpointWriter(
  { checkpoints, caller }: Pick<TrainOptions, 'checkpoints' | 'caller'>,
  startOuterStep: number,
): CheckpointWriter {
  let durableOuterStep = startOuterStep;
  let last: CheckpointReceipt | null = null;
  return {
    async write(state) {
      if (last !== null && durableOuterStep === state.outerStep) return last;
      last = await checkpoints.write(state);
      if (state.outerStep > durableOuterStep)
        caller.sink({ kind: 'checkpoint', outerStep: state.outerStep, ...last });
      durableOuterStep = state.outerStep;
      return last;
    },
    get durableOuterStep() {
      return durableOuterStep;
    },
  };
}

/**
 * Writes the last complete outer step, then returns the error to throw: for an interruption, one with
 * the command that continues, else the failure itself. After a bug nothing is written.
 */
export async function resumableFailure(
  error: unknown,
  state: TrainingState,
  { run: { config }, caller }: Pick<TrainOptions, 'run' | 'caller'>,
  checkpoints: CheckpointWriter,
): Promise<unknown> {
  if (!(error instanceof QianmoError)) return error;
  if (state.outerStep > checkpoints.durableOuterStep) {
    try {
      await checkpoints.write(state);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      if (!isSameFailure(cause, error))
        caller.sink({ kind: 'checkpoint-not-written', outerStep: state.outerStep, reason });
    }
  }
  if (!isInterruption(error)) return error;
  const durable = checkpoints.durableOuterStep;
  return new QianmoError({
    kind: 'interrupted',
    what: `training was stopped; outer step ${durable} of ${config.training.outerSteps} is safe`,
    where: config.output,
    cure:
      durable === 0
        ? 'nothing was trained yet: give the same command again'
        : 'continue with `qianmo train run.yaml --resume` (the same run config)',
  });
}

/** A disk that is still full is reported once. */
function isSameFailure(first: unknown, second: unknown): boolean {
  return (
    first instanceof QianmoError &&
    second instanceof QianmoError &&
    first.report.what === second.report.what
  );
}
