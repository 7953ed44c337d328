/**
 * A call that trains a run. It starts what computes as soon as the config is read, and loads the code that
 * trains, and opens the store, while those processes load TensorFlow.
 */

import type { z } from 'zod';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { tlsFilesOf } from '../../../shared/storage/tls-files.js';
import type { RunContext } from '../call/run-context.js';
import { chosenConfigOf } from '../config-sources.js';
import { dispatchForRun, openedBesideStart, type RunDispatch } from '../dispatch-for-run.js';
import { loggedRun, trackedCallOf } from '../logged-run.js';
import type { TrainRequestSchema } from '../requests.js';
import type { TrainingResult } from '../train-run.js';

export async function trainRun(
  request: z.output<typeof TrainRequestSchema>,
  context: RunContext,
): Promise<TrainingResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  return loggedRun(trackedCallOf('train', config, request.fresh), context, async (logged) => {
    const [{ run, trainedRun }, dispatch] = await openedBesideStart(
      logged,
      async () => {
        const { openPreparedRun } = await import('../run-files.js');
        const run = await openPreparedRun(config, logged);
        const { trainedRun } = await import('../train-run.js');
        return { run, trainedRun };
      },
      (starting) => dispatchForRun(config, config.run, request, starting),
    );
    if (request.dashboard) await serveDashboard(config, dispatch, logged);
    return trainedRun(run, dispatch, request, logged);
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
  const { serveQueueBoard } = await import('../../dashboard/queue-board.js');
  const board = await serveQueueBoard({
    redisUrl,
    tls: await tlsFilesOf(context.environment),
    prefix: config.queue.prefix,
    port: 0,
    host: '127.0.0.1',
  });
  context.onClose(() => board.close());
  context.sink({ kind: 'queue-board-served', url: board.url });
}
