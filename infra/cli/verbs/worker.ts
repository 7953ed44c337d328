/** `qianmo worker`: carries jobs of any run until it is stopped. */

import { hostname } from 'node:os';
import { z } from 'zod';
import { createComputeProcess } from '../../../worker/compute-process.js';
import { runWorker } from '../../../worker/worker.js';
import type { CommandContext } from '../command-context.js';
import { parsedOptions } from '../usage-failure.js';

const OptionsSchema = z.object({
  redis: z.string().min(1, 'expected a value'),
  prefix: z.string().min(1, 'expected a value'),
  name: z.string().min(1, 'expected a value').optional(),
});

export async function workerVerb(rawOptions: unknown, context: CommandContext): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'worker');
  const { sink } = context;
  const executor = createComputeProcess({
    clock: context.clock,
    onEvent: (event) => {
      if (event.kind === 'warning') sink(event);
    },
  });
  context.onClose(() => executor.close());
  sink({ kind: 'notice', message: `worker takes jobs from ${options.redis}` });
  await runWorker({
    redisUrl: options.redis,
    prefix: options.prefix,
    name: options.name ?? `${hostname()}-${process.pid}`,
    clock: context.clock,
    executor,
    signal: context.signal,
    onEvent: (event) => {
      if (event.kind === 'redis-trouble') sink({ kind: 'warning', message: event.reason });
      if (event.kind === 'job-failed')
        sink({ kind: 'warning', message: `job ${event.jobId} failed: ${event.reason}` });
    },
  });
}
