/** `qianmo worker`: carries jobs of any run until it is stopped. */

import { hostname } from 'node:os';
import { z } from 'zod';
import { DeviceDemandSchema } from '../../../shared/config/run-config.js';
import { runWorker } from '../../../worker/carrying/work-loop.js';
import type { CommandContext } from '../command-context.js';
import { startedComputeProcess } from '../started-compute-process.js';
import { parsedOptions } from '../usage-failure.js';

const OptionsSchema = z.object({
  redis: z.string().min(1, 'expected a value'),
  prefix: z.string().min(1, 'expected a value'),
  name: z.string().min(1, 'expected a value').optional(),
  device: DeviceDemandSchema,
  gpuIndex: z.number().optional(),
});

export async function workerVerb(rawOptions: unknown, context: CommandContext): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'worker');
  const { sink } = context;
  const executor = await startedComputeProcess(options.device, options.gpuIndex, context).catch(
    (error: unknown) => {
      // Stopped before it was up, as it may be at any time.
      if (context.signal.aborted) return null;
      throw error;
    },
  );
  if (executor === null) return;
  await runWorker({
    redisUrl: options.redis,
    prefix: options.prefix,
    name: options.name ?? `${hostname()}-${process.pid}`,
    clock: context.clock,
    executor,
    signal: context.signal,
    onEvent: sink,
  });
}
