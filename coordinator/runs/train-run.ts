/** Trains a prepared run from its first or latest outer step to the last. */

import type { z } from 'zod';
import type { RunConfig } from '../../shared/config/run-config.js';
import { toldBy } from '../../shared/events/run-events.js';
import { serveQueueBoard } from '../dashboard/queue-board.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { train } from '../training/outer-loop.js';
import type { TrainingOutcome } from '../training/train-options.js';
import { runConfigOf } from './config-sources.js';
import { dispatchForRun, type RunDispatch } from './dispatch-for-run.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import type { TrainRequestSchema } from './requests.js';
import type { RunContext } from './call/run-context.js';
import { checkpointsOf, openPreparedRun, warnOfUnconditionalWrites } from './run-files.js';
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
}

export async function trainRun(
  request: z.output<typeof TrainRequestSchema>,
  context: RunContext,
): Promise<TrainingResult> {
  const config = await runConfigOf(request.config, context.environment);
  return loggedRun(loggedCallOf(config), context, async (logged) => {
    const run = await openPreparedRun(config, logged);
    const dispatch = await dispatchForRun(config, config.run, request, logged);
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
  await warnOfUnconditionalWrites(run.config, context);
  const { outerSteps, address, digest } = await trainOn(run, dispatch, start, context);
  return { run: run.config.run, outerSteps, checkpoint: address, digest };
}

export async function trainOn(
  run: PreparedRun,
  dispatch: RunDispatch,
  start: TrainingStartChoice,
  context: RunContext,
): Promise<TrainingOutcome> {
  // The global arm of an evaluation is a run with its own name.
  const sink = toldBy({ runId: run.config.run }, context.sink);
  const startFrom = await startFromRun(run, start, context);
  return train({
    run,
    dispatcher: dispatch.dispatcher,
    checkpoints: checkpointsOf(run, { ...context, sink }),
    start: { ...start, ...(startFrom === null ? {} : { startFrom }) },
    caller: { ...context, sink },
  });
}

/** Serves the queue board until the context closes. */
async function serveDashboard(
  config: RunConfig,
  { redisUrl }: RunDispatch,
  context: RunContext,
): Promise<void> {
  if (redisUrl === null) {
    context.sink({ kind: 'queue-board-absent' });
    return;
  }
  const board = await serveQueueBoard({
    redisUrl,
    prefix: config.queue.prefix,
    port: 0,
    host: '127.0.0.1',
  });
  context.onClose(() => board.close());
  context.sink({ kind: 'queue-board-served', url: board.url });
}
