/** The queue that a command asks about runs and workers. */

import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import type { JobQueue } from '../../../shared/queue/job-queue.js';
import { signedJobQueue } from '../../../shared/signing/signed-job-queue.js';
import { signingKeyOf } from '../../../shared/signing/signing-key.js';
import { tlsFilesOf } from '../../../shared/storage/tls-files.js';
import type { RunContext } from './run-context.js';

interface QueueAddress {
  readonly redisUrl: string;
  readonly prefix: string;
}

/** Connections have the certificates that the environment names, and orders the signature of its key. */
export async function queueAt(
  { redisUrl, prefix }: QueueAddress,
  { clock, environment }: Pick<RunContext, 'clock' | 'environment'>,
): Promise<JobQueue> {
  const [key, tls] = await Promise.all([signingKeyOf(environment), tlsFilesOf(environment)]);
  return signedJobQueue(bullmqJobQueue({ redisUrl, prefix, clock, tls }), key);
}
