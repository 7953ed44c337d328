/**
 * Carries one job from the bytes on the queue to the record it returns: parse and fetch, which may
 * be done ahead, then compute under a deadline, and put. It knows no queue. A failure becomes a
 * text that the dispatcher understands (`shared/queue/job-failure.ts`).
 */

import type { Clock } from '../../shared/base/clock.js';
import { isRecord } from '../../shared/base/canonical-json.js';
import { type FailureKind, QianmoError } from '../../shared/base/errors.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { type JobFailure, type JobFailureKind, mayPass } from '../../shared/queue/queue-errors.js';
import type { JobConsumer } from '../../shared/queue/job-queue.js';
import { isOfTheMachine } from '../../shared/base/system-errors.js';
import { missingPluginOf } from '../../shared/plugins/missing-plugin.js';
import {
  type Job,
  type JobResult,
  JobSchema,
  PROTOCOL_VERSION,
  taskCountOf,
} from '../../shared/queue/protocol.js';
import { BlobMissingError, type BlobRef, type BlobStore } from '../../shared/storage/blob-store.js';
import { type JobLimits, reasonToRefuse } from './job-limits.js';
import { LruCache } from '../../shared/base/lru-cache.js';

/** Bounds the time before a job begins, in which the executor may restart its process twice. */
const BEGIN_TIMEOUT_MS = 300_000;
/** Bounds the time in which an executor must stop; after it the worker counts as broken. */
const STOP_GRACE_MS = 10_000;
/** The pause before a blob is fetched or put again that the server did not take or give. */
const BLOB_RETRY_DELAY_MS = 500;

/**
 * Larger than any sensible `queue.blobByteCountMax`; the coordinator enforces the limit of the run.
 */
const BLOB_BYTE_COUNT_MAX = 2 ** 31 - 1;

/** A reason of one's own spares the exception, with its stack, that the platform would make. */
const AWAKE = 'awake';

/** The part of a job that says where its blobs are, and for how long. */
type BlobTerms = Pick<Job, 'blobLifetimeMs' | 'largeBlobs'>;

export interface JobCarrier {
  /** Returns the store with the blobs of a job, which live for `blobLifetimeMs` after each use. */
  readonly blobsOf: (job: BlobTerms) => BlobStore;
  readonly sharedInputs: InputCache;
  readonly executor: JobExecutor;
  readonly clock: Clock;
  readonly workerName: string;
  /** Called when blobs cannot be fetched or put at present. */
  readonly onTrouble: (error: Error) => void;
  /** Absent where jobs come from this process alone. */
  readonly limits?: JobLimits;
}

/** The blobs of jobs that were taken from one queue. */
export function blobsOn(end: Pick<JobConsumer, 'blobs'>): JobCarrier['blobsOf'] {
  return ({ blobLifetimeMs: lifetimeMs, largeBlobs: large }) =>
    end.blobs({
      ...{ lifetimeMs, blobByteCountMax: BLOB_BYTE_COUNT_MAX },
      ...(large === undefined ? {} : { large }),
    });
}

export interface CarriedInput extends JobInput {
  /** Time of fetching; absent where nobody fetched. */
  readonly fetchMs?: number;
}

export class JobFailedError extends Error {
  readonly failure: JobFailure;
  constructor(failure: JobFailure, cause?: unknown) {
    super(failure.reason, cause === undefined ? {} : { cause });
    this.name = 'JobFailedError';
    this.failure = failure;
  }
}

/** Thrown when the executor ignored its signal. The process that holds it must end. */
export class ExecutorStuckError extends Error {
  override readonly name = 'ExecutorStuckError';
}

/**
 * Fetches everything that a job needs to be computed.
 *
 * @param signal aborts when the job is to be given up (lost lock).
 * @throws JobFailedError
 */
export async function fetchJob(
  data: unknown,
  carrier: JobCarrier,
  signal: AbortSignal,
): Promise<CarriedInput> {
  const startMs = carrier.clock.monotonicMs();
  const job = parsedJob(data);
  const { limits, workerName } = carrier;
  if (job.notBy?.includes(workerName) === true)
    throw new JobFailedError({ kind: 'declined', reason: `worker ${workerName} is not to do it` });
  const reason = limits === undefined ? null : reasonToRefuse(job, limits);
  if (reason !== null) throw new JobFailedError({ kind: 'refused', reason });
  try {
    const blobs = patientBlobs(carrier.blobsOf(job), carrier, signal);
    const { sharedInputs } = carrier;
    const [dense, frozen, rowPack] = await Promise.all([
      sharedInputs.get(job.dense, blobs),
      job.frozen === undefined ? null : sharedInputs.get(job.frozen, blobs),
      job.rowPack === undefined ? null : blobs.get(job.rowPack),
    ]);
    const fetchMs = carrier.clock.monotonicMs() - startMs;
    return { job, dense, rowPack, frozen, fetchMs };
  } catch (error) {
    throw new JobFailedError(failureOf(error, job), error);
  }
}

/**
 * @param signal aborts when the job is to be given up (shutdown, lost lock).
 * @param onComputed called when the executor is free again, before the output is put.
 * @throws JobFailedError, or ExecutorStuckError
 */
export async function carryJob(
  input: CarriedInput,
  carrier: JobCarrier,
  signal: AbortSignal,
  onComputed: () => void = () => undefined,
): Promise<JobResult> {
  const { job } = input;
  try {
    const computed = await withinDeadline(job, carrier, signal, (stopSignal, onBegin) =>
      carrier.executor.execute(input, stopSignal, onBegin),
    );
    onComputed();
    const uploadedFromMs = carrier.clock.monotonicMs();
    const blobs = patientBlobs(carrier.blobsOf(job), carrier, signal);
    const output = await blobs.put(computed.output);
    const uploadMs = carrier.clock.monotonicMs() - uploadedFromMs;
    return {
      protocolVersion: PROTOCOL_VERSION,
      runId: job.runId,
      outerStep: job.outerStep,
      jobIndex: job.jobIndex,
      output,
      taskCount: taskCountOf(job),
      queryRowCount: computed.queryRowCount,
      computeMs: computed.computeMs,
      ...(input.fetchMs === undefined ? {} : { fetchMs: input.fetchMs }),
      uploadMs,
      worker: carrier.workerName,
      backend: computed.backend,
      fingerprint: computed.fingerprint,
    };
  } catch (error) {
    if (error instanceof ExecutorStuckError) throw error;
    throw new JobFailedError(failureOf(error, job), error);
  }
}

/**
 * Repeats what the server of the blobs does not do at present, so that an outage or a full disk throws
 * no computed result away. When the signal aborts, the last failure is thrown.
 */
function patientBlobs(
  blobs: BlobStore,
  { clock, onTrouble }: JobCarrier,
  signal: AbortSignal,
): Pick<BlobStore, 'get' | 'put'> {
  const repeated = async <Value>(action: () => Promise<Value>): Promise<Value> => {
    for (;;) {
      try {
        return await action();
      } catch (error) {
        if (!mayPass(error) || signal.aborted) throw error;
        onTrouble(error);
      }
      await clock.sleep(BLOB_RETRY_DELAY_MS, signal);
    }
  };
  return {
    get: (ref) => repeated(() => blobs.get(ref)),
    put: (bytes, ref) => repeated(() => blobs.put(bytes, ref)),
  };
}

function parsedJob(data: unknown): Job {
  if (isRecord(data) && 'protocolVersion' in data && data['protocolVersion'] !== PROTOCOL_VERSION) {
    // A value of another kind may be too deeply nested for a text.
    const { protocolVersion } = data;
    const found = typeof protocolVersion === 'number' ? protocolVersion : 'of no number';
    throw new JobFailedError({
      kind: 'refused',
      reason: `this worker speaks protocol ${PROTOCOL_VERSION}, the job protocol ${found}: run the same version of qianmo on coordinator and workers`,
    });
  }
  const missing = missingPluginOf(data);
  if (missing !== null) throw new JobFailedError({ kind: 'refused', reason: missing });
  const parsed = JobSchema.safeParse(data);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new JobFailedError({
    kind: 'permanent',
    reason: `the job is malformed at ${issue?.path.join('.') || 'its root'}: ${issue?.message ?? ''}`,
  });
}

async function withinDeadline(
  job: Job,
  { clock }: JobCarrier,
  signal: AbortSignal,
  compute: (signal: AbortSignal, onBegin: () => void) => Promise<JobOutput>,
): Promise<JobOutput> {
  const stop = new AbortController();
  const nap = new Nap(clock);
  const progress = { hasBegun: false, isSettled: false };
  const onBegin = (): void => {
    if (progress.hasBegun) return;
    progress.hasBegun = true;
    nap.end();
  };
  const giveUp = (): void => {
    if (stop.signal.aborted) return;
    stop.abort();
    nap.end();
  };
  if (signal.aborted) giveUp();
  signal.addEventListener('abort', giveUp, { once: true });
  const givenUp: { because: string | null } = { because: null };
  const isOver = (): boolean => progress.isSettled || stop.signal.aborted;
  const watch = async (): Promise<never> => {
    if (!progress.hasBegun && !isOver()) await nap.sleep(BEGIN_TIMEOUT_MS);
    if (progress.hasBegun && !isOver()) await nap.sleep(job.timeoutMs);
    if (!isOver()) {
      givenUp.because = progress.hasBegun
        ? `the job passed its deadline of ${job.timeoutMs} ms`
        : `the job did not begin within ${BEGIN_TIMEOUT_MS} ms`;
      giveUp();
    }
    if (!progress.isSettled) await nap.sleep(STOP_GRACE_MS);
    // Making an error takes a stack, and nobody would read this one.
    if (progress.isSettled) return forever();
    throw new ExecutorStuckError('the executor did not stop when told to');
  };
  try {
    return await Promise.race([compute(stop.signal, onBegin), watch()]);
  } catch (error) {
    if (givenUp.because === null || error instanceof ExecutorStuckError) throw error;
    throw new QianmoError({
      kind: 'transient',
      what: givenUp.because,
      ...foundBy(error),
      cure: 'lower training.microBatchRowsMax, or raise queue.jobTimeoutMs',
      cause: error,
    });
  } finally {
    progress.isSettled = true;
    nap.end();
    signal.removeEventListener('abort', giveUp);
  }
}

function forever(): Promise<never> {
  return new Promise(() => undefined);
}

/** One sleep at a time, which can be ended. Joined signals would do the same at many times the cost. */
class Nap {
  readonly #clock: Clock;
  #enough = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async sleep(durationMs: number): Promise<void> {
    this.#enough = new AbortController();
    await this.#clock.sleep(durationMs, this.#enough.signal);
  }

  end(): void {
    this.#enough.abort(AWAKE);
  }
}

/** The last report that the executor had of the job that it gave up. */
function foundBy(error: unknown): { readonly found?: string } {
  const found = error instanceof QianmoError ? error.report.found : undefined;
  return found === undefined ? {} : { found };
}

const FAILURE_BY_KIND: Readonly<Record<FailureKind, JobFailureKind>> = {
  usage: 'permanent',
  data: 'permanent',
  environment: 'sick',
  transient: 'transient',
  failed: 'transient',
  interrupted: 'transient',
  cancelled: 'transient',
};

function failureOf(error: unknown, job: Job): JobFailure {
  if (error instanceof BlobMissingError) return { kind: 'blob-missing', reason: error.message };
  if (!(error instanceof QianmoError)) {
    const reason = error instanceof Error ? error.message : String(error);
    return { kind: isOfTheMachine(error) ? 'sick' : 'transient', reason };
  }
  const { where, expected, found, cure } = error.report;
  // A damaged input is replaced by putting it again; the blob store has removed it.
  const isInput = [job.dense, job.rowPack, job.frozen].some(
    (ref) => ref !== undefined && where?.includes(ref.sha256) === true,
  );
  if (error.kind === 'data' && isInput) return { kind: 'blob-missing', reason: error.message };
  const parts = [error.message];
  if (expected !== undefined) parts.push(`expected ${expected}`);
  if (found !== undefined) parts.push(`found ${found}`);
  if (cure !== undefined) parts.push(`cure: ${cure}`);
  return { kind: failureKindOf(error), reason: parts.join('; ') };
}

function failureKindOf(error: QianmoError): JobFailureKind {
  if (isOfTheMachine(error)) return 'sick';
  return error.report.isOfThisMachine === true ? 'refused' : FAILURE_BY_KIND[error.kind];
}

/**
 * Room for four runs that take turns: the dense inputs of two outer steps and the frozen inputs of
 * each. Past inputs are never asked for again. Without this bound, small ones would pile up to the
 * bound on bytes.
 */
const BLOB_COUNT_MAX = 12;

export class InputCache {
  readonly #bytesBySha256: LruCache<string, Uint8Array>;
  readonly #fetchBySha256 = new Map<string, Promise<Uint8Array>>();

  constructor(byteCountMax: number) {
    this.#bytesBySha256 = new LruCache({ byteCountMax, countMax: BLOB_COUNT_MAX });
  }

  get byteCount(): number {
    return this.#bytesBySha256.byteCount;
  }

  /** @throws what `BlobStore.get` throws. */
  async get(ref: BlobRef, blobs: Pick<BlobStore, 'get'>): Promise<Uint8Array> {
    const known = this.#bytesBySha256.get(ref.sha256);
    if (known !== undefined) return known;
    const bytes = await this.#fetchedOnce(ref, blobs);
    this.#bytesBySha256.put(ref.sha256, bytes, bytes.byteLength);
    return bytes;
  }

  /** The job under way and the one held ahead may ask for the same bytes at once. */
  async #fetchedOnce(ref: BlobRef, blobs: Pick<BlobStore, 'get'>): Promise<Uint8Array> {
    const underWay = this.#fetchBySha256.get(ref.sha256);
    if (underWay !== undefined) return underWay;
    const fetched = blobs.get(ref);
    this.#fetchBySha256.set(ref.sha256, fetched);
    try {
      return await fetched;
    } finally {
      this.#fetchBySha256.delete(ref.sha256);
    }
  }
}
