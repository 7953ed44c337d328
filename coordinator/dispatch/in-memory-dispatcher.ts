/**
 * Hands jobs to a `JobExecutor` directly, for training in one process and for tests. It carries one
 * job at a time, in order, and admits and retries by the same rules as the queue dispatcher.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import {
  lossesOf,
  type JobExecutor,
  type JobInput,
  type JobOutput,
} from '../../shared/queue/job-executor.js';
import { PROTOCOL_VERSION, taskCountOf, type Job } from '../../shared/queue/protocol.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { sketchedRefOf, type BlobRef } from '../../shared/storage/blob-store.js';
import { Admission, admissionRecord } from './admission.js';
import {
  jobOf,
  type Admitted,
  type DeliveredResult,
  type Dispatcher,
  type Rejection,
} from './dispatcher.js';
import { attemptsUsedUp } from './job-delivery.js';

interface InMemoryDispatcherOptions {
  readonly executor: JobExecutor;
  readonly clock: Clock;
  /** The number of attempts at one job, including those whose result is refused. */
  readonly attemptsMax: number;
  readonly sink: RunEventSink;
}

const WORKER_NAME = 'in-process';
const RETRY_DELAY_MS = 100;
const RETRY_DELAY_MS_MAX = 5_000;

/** `close` leaves the executor open: its owner closes it. */
export function createInMemoryDispatcher(options: InMemoryDispatcherOptions): Dispatcher {
  const record = admissionRecord(options.sink);
  // Orders share arrays: dense bytes within an outer step, frozen bytes within a run. Each is
  // named once, by its sketch, since bytes never leave this machine and nobody verifies them.
  const refs = new WeakMap<Uint8Array, BlobRef>();
  const refOf = (bytes: Uint8Array): BlobRef => {
    const ref = refs.get(bytes) ?? sketchedRefOf(bytes);
    refs.set(bytes, ref);
    return ref;
  };
  return {
    rejections: record.rejections,
    async *run(orders, read, signal, terms = {}) {
      const admission = new Admission(orders, read, record);
      for (const order of orders) {
        const { dense, rowPack, frozen } = order;
        const fingerprint = record.fingerprints.of(order.job);
        const job = jobOf(order, refOf, { epoch: 0, fingerprint, notBy: [] });
        const input = { job, dense, rowPack, frozen };
        yield await admittedResult(input, admission, signal, { ...options, ...terms });
      }
    },
    close: () => Promise.resolve(),
  };
}

async function admittedResult<Value extends object>(
  input: JobInput,
  admission: Admission<Value>,
  signal: AbortSignal,
  { executor, clock, attemptsMax, sink }: InMemoryDispatcherOptions,
): Promise<Admitted<Value>> {
  const { jobIndex, outerStep } = input.job;
  let lastFailure: { reason: string; rejection?: Rejection; cause?: unknown } = {
    reason: 'no attempt was allowed',
  };
  for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
    if (attempt > 1) {
      sink({
        kind: 'job-retried',
        outerStep,
        jobIndex,
        cause: lastFailure.rejection === undefined ? 'failed' : 'rejected',
        reason: lastFailure.reason,
      });
      const delayMs = RETRY_DELAY_MS * 2 ** (attempt - 2);
      await clock.sleep(Math.min(delayMs, RETRY_DELAY_MS_MAX), signal);
    }
    const output = await outputOrTransientError(executor, input, signal);
    if (output instanceof QianmoError) {
      lastFailure = { reason: output.message, cause: output };
      continue;
    }
    const judged = admission.judge(deliveredOf(input.job, output));
    if (typeof judged !== 'string') return judged;
    lastFailure = { reason: `its result was refused: ${judged}`, rejection: judged };
  }
  const where = `outer step ${outerStep}, job ${jobIndex}`;
  throw attemptsUsedUp({ where, jobIndex }, attemptsMax, lastFailure);
}

/**
 * @throws errors that another attempt cannot cure, and `interrupted` as soon as the signal aborts.
 */
async function outputOrTransientError(
  executor: JobExecutor,
  input: JobInput,
  signal: AbortSignal,
): Promise<JobOutput | QianmoError> {
  if (signal.aborted) throw interrupted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      reject(interrupted());
    };
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([executor.execute(input, signal), aborted]);
  } catch (error) {
    if (error instanceof QianmoError && error.kind === 'transient') return error;
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function deliveredOf(job: Job, computed: JobOutput): DeliveredResult {
  const { output, ...measured } = computed;
  return {
    result: {
      protocolVersion: PROTOCOL_VERSION,
      runId: job.runId,
      outerStep: job.outerStep,
      jobIndex: job.jobIndex,
      output: sketchedRefOf(output),
      taskCount: taskCountOf(job),
      worker: WORKER_NAME,
      ...lossesOf(measured),
      queryRowCount: measured.queryRowCount,
      computeMs: measured.computeMs,
      backend: measured.backend,
      fingerprint: measured.fingerprint,
      microBatchRowsMax: measured.microBatchRowsMax,
    },
    output,
    isConfirmed: true,
  };
}

function interrupted(): QianmoError {
  return new QianmoError({
    kind: 'interrupted',
    what: 'stopped before every job had a result',
    cure: 'continue with --resume',
  });
}
