/** The queue that a command asks about runs and workers. */

import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import type { JobQueue } from '../../../shared/queue/job-queue.js';
import { tlsFilesOf } from '../../../shared/storage/tls-files.js';
import type { RunContext } from './run-context.js';

interface QueueAddress {
  readonly redisUrl: string;
  readonly prefix: string;
}

/** Connections have the certificates that the environment names. */
export async function queueAt(
  { redisUrl, prefix }: QueueAddress,
  { clock, environment }: Pick<RunContext, 'clock' | 'environment'>,
): Promise<JobQueue> {
  return bullmqJobQueue({ redisUrl, prefix, clock, tls: await tlsFilesOf(environment) });
}
