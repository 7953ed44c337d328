/** The failures of a compute process in words: how it ended, its last activity, and the cure. */

import { QianmoError, type FailureReport } from '../../shared/base/errors.js';
import type { JobProgress } from './compute-protocol.js';

/** The latest progress that a compute process reported for its job. */
export interface Heartbeat {
  readonly progress: JobProgress;
  readonly atMs: number;
}

const TRY_AGAIN = 'no action needed: the job is retried in a new process';

/** The usual cause of each fatal signal in a process that runs native code. */
const CURE_BY_SIGNAL: Readonly<Record<string, string>> = {
  SIGKILL:
    'usually the kernel, because memory ran out: lower training.microBatchRowsMax ' +
    'or the number of workers on this machine',
  SIGABRT:
    'native code aborted, usually for lack of memory: see its last lines above, and lower ' +
    'training.microBatchRowsMax',
  SIGSEGV: 'native code crashed: if one job causes it on every machine, report it with the config',
  SIGBUS: 'native code crashed, or a mapped file was truncated: check whether the disk is full',
  SIGILL:
    'this processor lacks an instruction that the library uses: run the worker on another machine',
  SIGFPE: 'native code divided by zero: report it with the config',
};

export function endOf(
  code: number | null,
  signal: NodeJS.Signals | null,
): `exit code ${string}` | `signal ${string}` {
  return signal === null ? `exit code ${code ?? 'unknown'}` : `signal ${signal}`;
}

/** `last heard: micro-batch 3 of 8, 1.2 s ago` */
export function lastHeardOf(heartbeat: Heartbeat | null, nowMs: number): string {
  if (heartbeat === null) return 'last heard: nothing about this job';
  const { progress, atMs } = heartbeat;
  const { phase, microBatch } = progress;
  const doing =
    microBatch === undefined ? phase : `micro-batch ${microBatch.number} of ${microBatch.count}`;
  return `last heard: ${doing}, ${((nowMs - atMs) / 1000).toFixed(1)} s ago`;
}

export function endedError(
  subject: string,
  end: { readonly how: string; readonly signal?: NodeJS.Signals | null },
  lastHeard?: string,
): QianmoError {
  const known = end.signal ? CURE_BY_SIGNAL[end.signal] : undefined;
  return transient({
    what: `the compute process ended during ${subject}: ${end.how}`,
    ...(lastHeard === undefined ? {} : { found: lastHeard }),
    cure: `${TRY_AGAIN}; if it repeats: ${known ?? 'check whether memory runs out'}`,
  });
}

export function deadlineError(subject: string, timeoutMs: number, lastHeard?: string): QianmoError {
  return transient({
    what: `${subject} passed its deadline`,
    expected: `an answer within ${timeoutMs} ms`,
    ...(lastHeard === undefined ? {} : { found: lastHeard }),
    cure: `${TRY_AGAIN}; if it repeats, raise queue.jobTimeoutMs or lower training.microBatchRowsMax`,
  });
}

export function silentError(subject: string, silenceMs: number, lastHeard?: string): QianmoError {
  return transient({
    what: `the compute process stopped responding during ${subject}`,
    expected: `a sign of life every ${silenceMs} ms while its thread is free`,
    ...(lastHeard === undefined ? {} : { found: lastHeard }),
    cure: `${TRY_AGAIN}; if it repeats, check whether the machine swaps or its disk hangs`,
  });
}

export function badMessageError(subject: string): QianmoError {
  return transient({
    what: `the compute process sent an invalid answer during ${subject}`,
    cure: `${TRY_AGAIN}; if it repeats, rebuild: npm run build`,
  });
}

/** The start of the process is the machine's business; no job has anything to do with it. */
export function notStartedError(error: unknown): unknown {
  if (!(error instanceof QianmoError) || error.kind !== 'transient') return error;
  return new QianmoError({
    ...error.report,
    kind: 'environment',
    cure: 'check the memory, the disk and the limits of this machine, and start the worker again if it has ended',
    cause: error,
  });
}

export function abortedError(lastHeard?: string): QianmoError {
  return new QianmoError({
    kind: 'interrupted',
    what: 'the job was aborted',
    ...(lastHeard === undefined ? {} : { found: lastHeard }),
  });
}

export function closedError(): QianmoError {
  return new QianmoError({ kind: 'interrupted', what: 'the compute process was closed' });
}

function transient(report: Omit<FailureReport, 'kind'>): QianmoError {
  return new QianmoError({ kind: 'transient', ...report });
}

export function portableOnGpuError(): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: 'portable jobs are computed on CPUs, and this worker demands a GPU',
    cure: 'start a worker with --device auto or cpu, or remove compute.portable from the config',
    isOfThisMachine: true,
  });
}
