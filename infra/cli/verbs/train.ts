/** `qianmo train`: one run from its first or latest outer step to the last. */

import { z } from 'zod';
import { serveQueueBoard } from '../../../coordinator/dashboard/queue-board.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import type { TrainingOutcome } from '../../../coordinator/training/train-options.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { CommandContext } from '../command-context.js';
import { configReaderOf } from '../named-places.js';
import { startFromRun } from '../start-from-run.js';
import { parsedOptions } from '../usage-failure.js';
import { dispatchForRun, type RunDispatch } from '../dispatch-for-run.js';
import {
  checkpointsOf,
  openPreparedRun,
  storeAddressOf,
  warnOfUnconditionalWrites,
  type PreparedRun,
} from '../run-files.js';

const OptionsSchema = z.object({
  workers: z.number().optional(),
  inProcess: z.boolean().optional(),
  redis: z.string().optional(),
  resume: z.boolean().default(false),
  fresh: z.boolean().default(false),
  dashboard: z.boolean().default(false),
  format: z.enum(['table', 'json']),
});

export async function trainVerb(
  path: string,
  rawOptions: unknown,
  context: CommandContext,
): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'train');
  const config = await loadRunConfig(path, configReaderOf(context.environment));
  const run = await openPreparedRun(config, context);
  const dispatch = await dispatchForRun(config, config.run, options, context);
  if (options.dashboard) await serveDashboard(config, dispatch, context);
  await warnOfUnconditionalWrites(config, context);
  const outcome = await trainRun(run, dispatch, options, context);
  context.print(
    options.format === 'json'
      ? JSON.stringify({
          run: config.run,
          outerSteps: outcome.outerSteps,
          checkpoint: outcome.address,
          digest: outcome.digest,
        })
      : `trained ${config.run}: ${outcome.outerSteps} outer steps, checkpoint ${outcome.address}, digest ${outcome.digest}`,
  );
}

export async function trainRun(
  run: PreparedRun,
  dispatch: RunDispatch,
  start: { readonly resume: boolean; readonly fresh: boolean },
  context: CommandContext,
): Promise<TrainingOutcome> {
  const { config, store, spec } = run;
  const startFrom = await startFromRun(run, start, context);
  return train({
    config,
    runId: config.run,
    store,
    storeAddress: storeAddressOf(config),
    spec,
    dispatcher: dispatch.dispatcher,
    checkpoints: checkpointsOf(run, context),
    resume: start.resume,
    fresh: start.fresh,
    ...(startFrom === null ? {} : { startFrom }),
    clock: context.clock,
    sink: context.sink,
    signal: context.signal,
  });
}

async function serveDashboard(
  config: RunConfig,
  { redisUrl }: RunDispatch,
  context: CommandContext,
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
