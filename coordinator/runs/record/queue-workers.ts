/** The workers that live on a queue, of all its runs. */

import type { z } from 'zod';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import type { ReportedWorker } from '../../../shared/queue/job-queue.js';
import type { RunContext } from '../call/run-context.js';
import type { WorkersRequestSchema } from './record-requests.js';

/** In the order of their names. */
export async function workersOfQueue(
  { redis, prefix }: z.output<typeof WorkersRequestSchema>,
  { clock }: Pick<RunContext, 'clock'>,
): Promise<readonly ReportedWorker[]> {
  const controller = await bullmqJobQueue({ redisUrl: redis, prefix, clock }).openController();
  try {
    const workers = await controller.workers();
    return [...workers].sort((a, b) => (a.name < b.name ? -1 : 1));
  } finally {
    await controller.close();
  }
}
