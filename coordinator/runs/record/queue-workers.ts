/** The workers that live on a queue, of all its runs. */

import type { z } from 'zod';
import type { ReportedWorker } from '../../../shared/queue/job-queue.js';
import { queueAt } from '../call/queue-at.js';
import type { RunContext } from '../call/run-context.js';
import type { WorkersRequestSchema } from './record-requests.js';

/** In the order of their names. */
export async function workersOfQueue(
  { redis: redisUrl, prefix }: z.output<typeof WorkersRequestSchema>,
  context: Pick<RunContext, 'clock' | 'environment'>,
): Promise<readonly ReportedWorker[]> {
  const queue = await queueAt({ redisUrl, prefix }, context);
  const controller = await queue.openController();
  try {
    const workers = await controller.workers();
    return [...workers].sort((a, b) => (a.name < b.name ? -1 : 1));
  } finally {
    await controller.close();
  }
}
