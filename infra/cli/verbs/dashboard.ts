/** `qianmo dashboard`: the queue board, read-only, until it is stopped. */

import { once } from 'node:events';
import { z } from 'zod';
import { serveQueueBoard } from '../../../coordinator/dashboard/queue-board.js';
import type { CommandContext } from '../command-context.js';
import { parsedOptions } from '../usage-failure.js';

const OptionsSchema = z.object({
  redis: z.string().min(1, 'expected a value'),
  prefix: z.string().min(1, 'expected a value'),
  port: z.number(),
});

export async function dashboardVerb(rawOptions: unknown, context: CommandContext): Promise<void> {
  const { redis, prefix, port } = parsedOptions(OptionsSchema, rawOptions, 'dashboard');
  const board = await serveQueueBoard({ redisUrl: redis, prefix, port, host: '127.0.0.1' });
  context.onClose(() => board.close());
  context.print(`queue board: ${board.url} (Ctrl-C stops it)`);
  if (!context.signal.aborted) await once(context.signal, 'abort');
}
