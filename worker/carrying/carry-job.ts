/**
 * Carries one job from the bytes on the queue to the record it returns: parse and fetch, which may
 * be done ahead, then compute, and put. It knows no queue.
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
  inputRefsOf,
  type Job,
  type JobResult,
  JobSchema,
  type JoinJob,
  JoinJobSchema,
  PROTOCOL_VERSION,
  taskCountOf,
} from '../../shared/queue/protocol.js';
import {
  BlobMissingError,
  type BlobRef,
  blobRefOf,
  type BlobStore,
} from '../../shared/storage/blob-store.js';
import { withRetry } from '../../shared/network/retry.js';
import { type JobLimits, reasonToRefuse } from './job-limits.js';
import { joinStored, lossesApart } from '../../shared/sums/delivered-sums.js';
import { LruCache } from '../../shared/base/lru-cache.js';

/** Larger than any sensible `queue.blobByteCountMax`; the coordinator enforces the limit of the run. */
const BLOB_BYTE_COUNT_MAX = 2 ** 31 - 1;

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

interface JoinInput {
  readonly job: JoinJob;
  readonly nodes: Parameters<typeof joinStored>[0];
}

export type CarriedInput = (JobInput | JoinInput) & {
  /** Time of fetching; absent where nobody fetched. */
  readonly fetchMs?: number;
};

export class JobFailedError extends Error {
  readonly failure: JobFailure;
  constructor(failure: JobFailure, cause?: unknown) {
    super(failure.reason, cause === undefined ? {} : { cause });
    this.name = 'JobFailedError';
    this.failure = failure;
  }
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
  const { limits } = carrier;
  const reason = limits === undefined ? null : reasonToRefuse(job, limits);
  if (reason !== null) throw new JobFailedError({ kind: 'refused', reason });
  try {
    const blobs = patientBlobs(carrier.blobsOf(job), carrier, signal);
    if (isJoin(job)) {
      const fetching = job.work.nodes.map(async ({ sum, ...node }) => {
        return { ...node, bytes: await blobs.get(sum) };
      });
      const nodes = await Promise.all(fetching);
      return { job, nodes, fetchMs: carrier.clock.monotonicMs() - startMs };
    }
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
 * @throws JobFailedError
 */
export async function carryJob(
  input: CarriedInput,
  carrier: JobCarrier,
  signal: AbortSignal,
  onComputed: () => void = () => undefined,
): Promise<JobResult> {
  const { job } = input;
  try {
    const computed =
      'nodes' in input
        ? joined(input, carrier.clock)
        : await carrier.executor.execute(input, signal);
    onComputed();
    const uploadedFromMs = carrier.clock.monotonicMs();
    const blobs = patientBlobs(carrier.blobsOf(job), carrier, signal);
    const sumsRef = job.keepsSums === true ? blobRefOf(computed.output) : null;
    const apart = sumsRef === null ? null : lossesApart(computed.output, sumsRef);
    const [output] = await Promise.all([
      blobs.put(apart?.losses ?? computed.output),
      sumsRef === null ? null : blobs.put(computed.output, sumsRef),
    ]);
    const uploadMs = carrier.clock.monotonicMs() - uploadedFromMs;
    return {
      protocolVersion: PROTOCOL_VERSION,
      runId: job.runId,
      outerStep: job.outerStep,
      jobIndex: job.jobIndex,
      output,
      ...(apart === null || sumsRef === null
        ? {}
        : { sums: { blob: sumsRef, isFinite: apart.isFinite } }),
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
    throw new JobFailedError(failureOf(error, job), error);
  }
}

/** A few additions, so that it needs no compute process. Every kind of machine adds alike. */
function joined({ job, nodes }: JoinInput, clock: Clock): JobOutput {
  const startMs = clock.monotonicMs();
  const { work, keepsSums, fingerprint = '' } = job;
  const output = joinStored(nodes, work.stepLeafCount, keepsSums === true);
  const computeMs = clock.monotonicMs() - startMs;
  return { output, queryRowCount: 0, computeMs, backend: 'float32 additions', fingerprint };
}

function isJoin(job: Job | JoinJob): job is JoinJob {
  return job.work.kind === 'join';
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
  const repeated = <Value>(action: () => Promise<Value>): Promise<Value> =>
    withRetry(action, {
      assertRetriable: (error) => {
        if (!mayPass(error) || signal.aborted) throw error;
        onTrouble(error);
      },
      pause: (pauseMs) => clock.sleep(pauseMs, signal),
    });
  return {
    get: (ref) => repeated(() => blobs.get(ref)),
    put: (bytes, ref) => repeated(() => blobs.put(bytes, ref)),
  };
}

function parsedJob(data: unknown): Job | JoinJob {
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
  const isJoinData = isRecord(data) && isRecord(data['work']) && data['work']['kind'] === 'join';
  const parsed = (isJoinData ? JoinJobSchema : JobSchema).safeParse(data);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new JobFailedError({
    kind: 'permanent',
    reason: `the job is malformed at ${issue?.path.join('.') || 'its root'}: ${issue?.message ?? ''}`,
  });
}

const FAILURE_BY_KIND: Readonly<Record<FailureKind, JobFailureKind>> = {
  usage: 'permanent',
  data: 'permanent',
  environment: 'sick',
  transient: 'transient',
  failed: 'transient',
  interrupted: 'transient',
  cancelled: 'transient',
  taken: 'transient',
};

function failureOf(error: unknown, job: Job | JoinJob): JobFailure {
  if (error instanceof BlobMissingError) return { kind: 'blob-missing', reason: error.message };
  if (!(error instanceof QianmoError)) {
    const reason = error instanceof Error ? error.message : String(error);
    return { kind: isOfTheMachine(error) ? 'sick' : 'transient', reason };
  }
  const { where, expected, found, cure } = error.report;
  // A damaged input is replaced by putting it again; the blob store has removed it.
  const isInput = inputRefsOf(job).some(({ sha256 }) => where?.includes(sha256) === true);
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
  readonly #fetched: LruCache<string, Promise<Uint8Array>>;

  constructor(byteCountMax: number) {
    this.#fetched = new LruCache({ byteCountMax, countMax: BLOB_COUNT_MAX });
  }

  get byteCount(): number {
    return this.#fetched.byteCount;
  }

  /**
   * Fetches once what the job under way and the one held ahead ask for at the same time.
   *
   * @throws as `BlobStore.get`.
   */
  get(ref: BlobRef, blobs: Pick<BlobStore, 'get'>): Promise<Uint8Array> {
    const known = this.#fetched.get(ref.sha256);
    if (known !== undefined) return known;
    const fetching = blobs.get(ref);
    void this.#fetched.put(ref.sha256, fetching, ref.byteCount);
    fetching.catch(() => this.#fetched.delete(ref.sha256));
    return fetching;
  }
}
