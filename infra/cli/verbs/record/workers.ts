/** `qianmo workers`: lists the workers that live on a queue. */

import { queueWorkers } from '../../../library/index.js';
import { callOptionsOf } from '../../command/command-context.js';
import { format, prefix, redisOfQueue } from '../../command/shared-options.js';
import { verb } from '../../command/verb.js';
import { printDocument } from '../../command/print-document.js';

export const workersVerb = verb({
  name: 'workers',
  description: 'list the workers that serve a queue, and the job that each of them holds',
  options: { redis: redisOfQueue, prefix, format },
  help: '\nExample:\n  qianmo workers --redis redis://10.0.0.5:6379',
  run: async (_operands, { format, ...queue }, context) => {
    const workers = await queueWorkers(queue, callOptionsOf(context));
    const { workersDocument } = await import('../../../../coordinator/reports/run-documents.js');
    printDocument(workersDocument(workers, context.clock.epochMs()), format, context);
  },
});
