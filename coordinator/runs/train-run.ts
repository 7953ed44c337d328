/** Trains a run from its first or latest outer step to the last. */

import { isInterruption } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { noticeEvent, toldBy } from '../../shared/events/run-events.js';
import { s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { validationLossOf } from '../evaluation/validation-score.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { train } from '../training/outer-loop.js';
import type { TrainingOutcome } from '../training/train-options.js';
import { chosenConfigOf } from './config-sources.js';
import { dispatchForRun, openedBesideStart, type RunDispatch } from './dispatch-for-run.js';
import { loggedRun, trackedCallOf } from './logged-run.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';
import { checkpointAddressOf, checkpointsOf, claimedPlace, openPreparedRun } from './run-files.js';
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

export async function trainRun(
  request: RequestOf<'train'>,
  context: RunContext,
): Promise<TrainingResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  return loggedRun(trackedCallOf('train', config, request.fresh), context, async (logged) => {
    const work = { runId: config.run, mayTrain: true };
    const [run, dispatch] = await openedBesideStart(
      logged,
      () => openPreparedRun(config, logged),
      (starting) => dispatchForRun(config, work, request, starting),
    );
    if (request.dashboard) await serveDashboard(config, dispatch, logged);
    return trainedRun(run, dispatch, request, logged);
  });
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

export async function trainOn(
  run: PreparedRun,
  { dispatcher }: RunDispatch,
  { resume, fresh, extendTo }: TrainingStartChoice,
  caller: RunContext,
): Promise<TrainingOutcome> {
  const { config } = run;
  // The global arm of an evaluation is a run with its own name.
  const context: RunContext = { ...caller, sink: toldBy({ runId: config.run }, caller.sink) };
  const { signal } = context;
  const place = { run: config.run, address: checkpointAddressOf(config) };
  const claim = await claimedPlace(config, place, context);
  try {
    const startFrom = await startFromRun(run, { resume }, context);
    const validationLoss = validationLossOf({ ...run, dispatcher, signal });
    return await train({
      ...{ run, dispatcher },
      ...(validationLoss === undefined ? {} : { validationLoss }),
      checkpoints: checkpointsOf(run, context, claim),
      start: {
        ...{ resume, fresh },
        ...(startFrom === null ? {} : { startFrom }),
        ...(extendTo === undefined ? {} : { extendTo }),
      },
      caller: {
        ...context,
        signal: claim === null ? signal : AbortSignal.any([signal, claim.lost]),
      },
    });
  } catch (error) {
    if (claim?.lost.aborted === true && isInterruption(error)) await claim.demand();
    throw error;
  } finally {
    await claim?.release();
  }
}

/** Serves the pages of this run until the context closes. */
async function serveDashboard(
  config: RunConfig,
  { redisUrl }: RunDispatch,
  context: RunContext,
): Promise<void> {
  const { servedDashboard } = await import('./dashboard-call.js');
  const dashboard = await servedDashboard(
    {
      ...{ redis: redisUrl, prefix: config.queue.prefix },
      ...{ roots: [config.output], servers: [], s3: s3OptionsOf(config.storage) },
      ...{ port: 0, host: '127.0.0.1', hostsAllowed: [], token: null, allowControl: false },
    },
    context,
  );
  context.onClose(() => dashboard.close());
  context.sink(noticeEvent('queue-board-served', `dashboard: ${dashboard.url}`));
}
