/** Trains a prepared run from its first or latest outer step to the last. */

import { isInterruption } from '../../shared/base/errors.js';
import { toldBy } from '../../shared/events/run-events.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { RunClaim } from '../checkpoints/run-claim.js';
import { validationLossOf } from '../evaluation/validation-score.js';
import { train } from '../training/outer-loop.js';
import type { TrainingOutcome } from '../training/train-options.js';
import type { RunDispatch } from './dispatch-for-run.js';
import type { RunContext } from './call/run-context.js';
import { checkpointAddressOf, checkpointsOf, claimedPlace } from './run-files.js';
import { startFromRun } from './start-from-run.js';

/** The end of a training: the last checkpoint and the digest of its meta-parameters. */
export interface TrainingResult {
  readonly run: string;
  /** Completed outer steps, including those before a resume. */
  readonly outerSteps: number;
  /** Address of the last checkpoint. */
  readonly checkpoint: string;
  readonly digest: string;
}

export interface TrainingStartChoice {
  readonly resume: boolean;
  readonly fresh: boolean;
  /** The number of outer steps to train to, instead of that of the checkpoint or the config. */
  readonly extendTo?: number;
}

/** Trains an open run on its dispatcher. */
export async function trainedRun(
  run: PreparedRun,
  dispatch: RunDispatch,
  start: TrainingStartChoice,
  context: RunContext,
): Promise<TrainingResult> {
  const { outerSteps, address, digest } = await trainOn(run, dispatch, start, context);
  return { run: run.config.run, outerSteps, checkpoint: address, digest };
}

interface TrainingOf {
  readonly run: PreparedRun;
  readonly dispatch: RunDispatch;
  readonly start: TrainingStartChoice;
}

export async function trainOn(
  run: PreparedRun,
  dispatch: RunDispatch,
  start: TrainingStartChoice,
  context: RunContext,
): Promise<TrainingOutcome> {
  const { config } = run;
  // The global arm of an evaluation is a run with its own name.
  const told: RunContext = { ...context, sink: toldBy({ runId: config.run }, context.sink) };
  const place = { run: config.run, address: checkpointAddressOf(config) };
  const claim = await claimedPlace(config, place, told);
  try {
    return await trainUnder(claim, { run, dispatch, start }, told);
  } finally {
    await claim?.release();
  }
}

async function trainUnder(
  claim: RunClaim | null,
  { run, dispatch, start }: TrainingOf,
  context: RunContext,
): Promise<TrainingOutcome> {
  const { signal } = context;
  const { resume, fresh } = start;
  try {
    const startFrom = await startFromRun(run, { resume }, context);
    const validationLoss = validationLossOf({ ...run, dispatcher: dispatch.dispatcher, signal });
    return await train({
      run,
      dispatcher: dispatch.dispatcher,
      ...(validationLoss === undefined ? {} : { validationLoss }),
      checkpoints: checkpointsOf(run, context, claim),
      start: {
        ...{ resume, fresh },
        ...(startFrom === null ? {} : { startFrom }),
        ...(start.extendTo === undefined ? {} : { extendTo: start.extendTo }),
      },
      caller: {
        ...context,
        signal: claim === null ? signal : AbortSignal.any([signal, claim.lost]),
      },
    });
  } catch (error) {
    if (claim?.lost.aborted === true && isInterruption(error)) await claim.demand();
    throw error;
  }
}
