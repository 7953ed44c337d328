/** The errors that end an outer step, apart from those of single jobs. */

import { QianmoError } from '../../shared/base/errors.js';
import { JOB_BYTE_COUNT_MAX, taskCountOf } from '../../shared/queue/protocol.js';
import { SIGNATURE_BYTE_COUNT } from '../../shared/queue/signing.js';
import type { JobDelivery } from './job-delivery.js';
import { NONE_HEALTHY_MS_MAX, type WorkerHealth } from './worker-health.js';

/** The jobs that are still open when a step fails. */
export interface OpenJobs {
  readonly orderCount: number;
  readonly openCount: number;
  readonly first: JobDelivery | undefined;
}

/** @throws QianmoError `usage` when the job, without the terms of its delivery, is larger than the queue takes. */
export function assertFits({ job, where }: Pick<JobDelivery, 'job' | 'where'>): void {
  const { notBy: _notBy, fingerprint: _fingerprint, ...jobAlone } = job;
  const byteCount = Buffer.byteLength(JSON.stringify(jobAlone));
  const byteCountMax = JOB_BYTE_COUNT_MAX - SIGNATURE_BYTE_COUNT;
  if (byteCount <= byteCountMax) return;
  throw new QianmoError({
    kind: 'usage',
    what: `a job of ${taskCountOf(job)} tasks is too large for the queue`,
    where,
    expected: `at most ${byteCountMax} bytes`,
    found: `${byteCount} bytes`,
    cure: 'lower training.microBatchRowsMax, or shorten the sections model and method',
  });
}

export function tooFewResults(
  open: OpenJobs,
  timeoutMs: number,
  health: WorkerHealth,
): QianmoError {
  const clouded = health.describe();
  const sick = clouded === null ? '' : `; ${clouded}`;
  return new QianmoError({
    kind: 'transient',
    what: 'an outer step did not get all its results in time',
    ...whereOf(open),
    expected: `${open.orderCount} results within ${timeoutMs} ms`,
    found: `${open.openCount} jobs still open${sick}`,
    cure: 'check that workers run and reach Redis, then continue with --resume',
  });
}

/** The time of an outer step is over, and two workers disagree on a result of it. Null if none do. */
export function undecidedDispute(
  disputes: ReadonlyMap<JobDelivery, readonly string[]>,
  health: WorkerHealth,
): QianmoError | null {
  const [dispute] = disputes;
  if (dispute === undefined) return null;
  const [{ where, job }, workers] = dispute;
  const clouded = health.describe();
  return new QianmoError({
    kind: 'transient',
    what: `two workers disagree on job ${job.jobIndex}: ${workers.join(', ')}`,
    where,
    expected: 'a third worker that decides in time',
    found: clouded === null ? 'none' : `none; ${clouded}`,
    cure: 'connect a third worker, then continue with --resume',
  });
}

export function noWorkerHealthy(open: OpenJobs, health: WorkerHealth): QianmoError {
  return new QianmoError({
    kind: health.isAnySick ? 'environment' : 'failed',
    what: health.isAnySick
      ? 'no connected worker is healthy'
      : 'every connected worker refuses the jobs of this run',
    ...whereOf(open),
    expected: `a worker that does jobs within ${NONE_HEALTHY_MS_MAX} ms`,
    found: health.describe() ?? '',
    cure: 'correct what the workers found, or start a worker that can do the jobs; then continue with --resume',
  });
}

function whereOf({ first }: OpenJobs): { readonly where?: string } {
  return first === undefined ? {} : { where: first.where };
}
