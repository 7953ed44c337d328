/** `qianmo dashboard`: serves the queue board, read-only, until it is stopped. */

import { once } from 'node:events';
import { serveDashboard } from '../../library/index.js';
import { format, prefix, redisOfQueue } from '../command/shared-options.js';
import { integerValue, textValue, valueOption, verb } from '../command/verb.js';

export const dashboardVerb = verb({
  name: 'dashboard',
  description: 'serve the queue board, read-only, on the loopback address',
  options: {
    redis: redisOfQueue,
    prefix,
    port: valueOption('--port <port>', 'port, 0 for any free one', integerValue(0, 65_535), {
      defaultText: '3000',
    }),
    hostAllow: valueOption(
      '--host-allow <names>',
      'names beside those of the loopback address under which the board answers, separated by commas',
      textValue.optional(),
    ),
    format,
  },
  help: '\nExample:\n  qianmo dashboard --redis redis://127.0.0.1:6379 --port 3000',
  run: async (_operands, { format, ...request }, context) => {
    const board = await serveDashboard(request, { environment: context.environment });
    try {
      context.print(
        format === 'json'
          ? JSON.stringify({ url: board.url })
          : `queue board: ${board.url} (Ctrl-C stops it)`,
      );
      if (!context.signal.aborted) await once(context.signal, 'abort');
    } finally {
      await board.close();
    }
  },
});
