/**
 * A call that trains a run. It starts what computes as soon as the config is read, and loads the code that
 * trains, and opens the store, while those processes load TensorFlow.
 */

import type { z } from 'zod';
import type { RunConfig } from '../../shared/config/run-config.js';
import { s3OptionsOf } from '../../shared/storage/open-object-store.js';
import type { RunContext } from './call/run-context.js';
import { chosenConfigOf } from './config-sources.js';
import { dispatchForRun, openedBesideStart, type RunDispatch } from './dispatch-for-run.js';
import { loggedRun, trackedCallOf } from './logged-run.js';
import type { TrainRequestSchema } from './requests.js';
import type { TrainingResult } from './train-run.js';
import { noticeEvent } from '../../shared/events/run-events.js';

export async function trainRun(
  request: z.output<typeof TrainRequestSchema>,
  context: RunContext,
): Promise<TrainingResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  return loggedRun(trackedCallOf('train', config, request.fresh), context, async (logged) => {
    const [{ run, trainedRun }, dispatch] = await openedBesideStart(
      logged,
      async () => {
        const { openPreparedRun } = await import('./run-files.js');
        const run = await openPreparedRun(config, logged);
        const { trainedRun } = await import('./train-run.js');
        return { run, trainedRun };
      },
      (starting) =>
        dispatchForRun(config, { runId: config.run, mayTrain: true }, request, starting),
    );
    if (request.dashboard) await serveDashboard(config, dispatch, logged);
    return trainedRun(run, dispatch, request, logged);
  });
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
      ...{ redisUrl, prefix: config.queue.prefix },
      ...{ roots: [config.output], servers: [], s3: s3OptionsOf(config.storage) },
      ...{ port: 0, host: '127.0.0.1', hostsAllowed: [], token: null, allowControl: false },
    },
    context,
  );
  context.onClose(() => dashboard.close());
  context.sink(noticeEvent('queue-board-served', `dashboard: ${dashboard.url}`));
}
