/**
 * The loop of a worker. Its queue hands it jobs of any run (`JobConsumer`); the executor computes them one at a time.
 * While a job is computed, the inputs of the next one are fetched and the output of the previous one is put. The
 * worker holds no state that matters and never imports a tensor library: this process must always be free to renew
 * its locks.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { DeviceDemand } from '../../shared/config/compute-config.js';
import { type RunEventOf, warningEvent } from '../../shared/events/run-events.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import {
  type JobFailureKind,
  QueueRefusedError,
  QueueUnavailableError,
} from '../../shared/queue/queue-errors.js';
import type {
  JobConsumer,
  JobOutcome,
  JobQueue,
  TakeTerms,
  TakenJob,
  WorkerReport,
} from '../../shared/queue/job-queue.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import {
  blobsOn,
  type CarriedInput,
  carryJob,
  fetchJob,
  InputCache,
  type JobCarrier,
  JobFailedError,
} from './carry-job.js';
import type { JobLimits } from './job-limits.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { FoundDevice } from '../../shared/events/device-report.js';

/** Bounds the shared inputs in memory: two outer steps of a large trunk, or frozen tables. */
const SHARED_INPUT_BYTE_COUNT_MAX = 512 * 1024 * 1024;

/**
 * A worker looks for its next job when it has computed for this long, and for this share of what its latest job took: idle
 * workers have taken theirs by then. A delivery that waits for one worker beside an idle one doubles the time of a step.
 */
const AHEAD_AFTER_MS = 50;
const AHEAD_AFTER_SHARE = 0.75;
/** A job that has waited for the executor this long goes back: another worker may be idle. */
const AHEAD_HELD_MS_MAX = 1_000;

/** A worker counts as gone after four of them. */
const BEAT_INTERVAL_MS = 2_000;
/** Shorter rests are not reported. */
const TOLD_REST_MS_MIN = 1_000;
/** A worker that cannot hand its job back within this time exits anyway: the lock will end. */
const STOP_TIMEOUT_MS = 15_000;

/** Null where the worker is not in doubt. */
const REST_CAUSE_BY_FAILURE: Readonly<Record<JobFailureKind, RestCause | null>> = {
  refused: 'refused',
  sick: 'sick',
  transient: 'failed',
  permanent: null,
  'blob-missing': null,
  'worker-lost': null,
};

export type WorkerEvent = RunEventOf<
  | 'worker-ready'
  | 'warning'
  | 'worker-stopped'
  | 'worker-resting'
  | 'job-started'
  | 'job-finished'
  | 'job-failed'
  | 'job-handed-back'
  | 'redis-trouble'
>;

interface RunWorkerOptions {
  readonly queue: Pick<JobQueue, 'address' | 'openConsumer'>;
  /** The name that the queue board and results show, unless another worker has it. */
  readonly name: string;
  /** The device that this worker computes on; `auto` by default. */
  readonly device?: DeviceDemand;
  /** Sets this worker's locks apart from those of any other worker. */
  readonly nonce: string;
  /** Belongs to the caller, who closes it. */
  readonly executor: JobExecutor;
  readonly clock: Clock;
  /** Ends the worker: the job under way goes back to the queue. */
  readonly signal: AbortSignal;
  readonly onEvent?: (event: WorkerEvent) => void;
  readonly blobs?: BlobStore;
  /** The limits on what jobs may ask of this machine; none if absent. */
  readonly limits?: JobLimits;
}

/**
 * Runs until the signal aborts.
 *
 * @throws QianmoError `environment` when the queue's server is down at the start or may evict keys.
 */
export async function runWorker(options: RunWorkerOptions): Promise<void> {
  const { queue, name, nonce, device = 'auto', onEvent = () => undefined } = options;
  let lastTrouble = '';
  const onError = (error: Error): void => {
    // A lost connection repeats the same words several times a second, until it is back.
    const isOfServer = error instanceof QueueUnavailableError || error instanceof QueueRefusedError;
    const reason = isOfServer ? error.reason : error.message;
    if (reason === lastTrouble) return;
    lastTrouble = reason;
    onEvent({ kind: 'redis-trouble', reason });
  };
  const bench = new WorkBench(options, onEvent, onError);
  const consumer = await queue.openConsumer({
    ...{ name, nonce, device, onError },
    process: (job, lost) => bench.process(job, lost),
    report: () => ownReport(options.executor),
    onReconnected: () => {
      lastTrouble = '';
    },
  });
  try {
    const { server } = consumer;
    onEvent({ kind: 'worker-ready', pid: process.pid, server, redisAddress: queue.address });
    if (consumer.name !== name)
      onEvent(
        warningEvent(
          'worker-renamed',
          `shares its name with another worker, so the queue calls it ${consumer.name}`,
        ),
      );
    await bench.workUntilStopped(consumer);
    onEvent({ kind: 'worker-stopped' });
  } finally {
    await consumer.close();
  }
}

interface HeldJob {
  readonly job: TakenJob;
  readonly carrier: JobCarrier;
  readonly fetching: Promise<CarriedInput>;
  readonly lost: AbortSignal;
  /** Aborts when the worker must give the job up: it stops, or the lock is lost. */
  readonly givenUp: AbortSignal;
}

class WorkBench {
  readonly #options: RunWorkerOptions;
  readonly #onEvent: (event: WorkerEvent) => void;
  readonly #onError: (error: Error) => void;
  readonly #rest = new WorkerRest();
  readonly #sharedInputs = new InputCache(SHARED_INPUT_BYTE_COUNT_MAX);
  readonly #heldIds = new Set<string>();
  readonly #stop = new AbortController();
  #failure: Error | undefined;
  #opened: { readonly consumer: JobConsumer; readonly carrier: JobCarrier } | null = null;
  /** Aborts when the job that waits for the executor is to go back. */
  #givingBack = new AbortController();
  /** Aborts when the job under way is computed; null while the executor is free. */
  #computing: AbortSignal | null = null;
  /** Of the latest job that the executor computed. */
  #latestComputeMs = 0;
  /** Whether the latest beat found a quarantine. */
  #isQuarantined = true;
  #isResting = false;

  constructor(
    options: RunWorkerOptions,
    onEvent: (event: WorkerEvent) => void,
    onError: (error: Error) => void,
  ) {
    this.#options = options;
    this.#onEvent = onEvent;
    this.#onError = onError;
  }

  /** @throws the failure of a job that is not that of the job alone. */
  async workUntilStopped(consumer: JobConsumer): Promise<void> {
    const { executor, clock, signal, blobs, limits } = this.#options;
    const carrier = {
      ...{ executor, clock, sharedInputs: this.#sharedInputs, workerName: consumer.name },
      blobsOf: blobs === undefined ? blobsOn(consumer) : () => blobs,
      onTrouble: this.#onError,
      ...(limits === undefined ? {} : { limits }),
    };
    this.#opened = { consumer, carrier };
    const stopped = new Promise<void>((resolve) => {
      this.#stop.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    if (signal.aborted) this.#stop.abort();
    signal.addEventListener('abort', () => this.#stop.abort(), { once: true });
    void this.#keepAlive(consumer);
    await this.#takeNext();
    await stopped;
    await this.#endInTime(consumer.stop());
    if (this.#failure !== undefined) throw this.#failure;
  }

  async process(job: TakenJob, lost: AbortSignal): Promise<JobOutcome> {
    if (this.#opened === null || this.#isResting || this.#stop.signal.aborted)
      return this.#handBack(job);
    this.#heldIds.add(job.jobId);
    const givenUp = new AnyOf(this.#stop.signal, lost);
    try {
      return await this.#carry(this.#begin(job, this.#opened.carrier, lost, givenUp.signal));
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#stop.abort();
      return { kind: 'handed-back' };
    } finally {
      this.#heldIds.delete(job.jobId);
      givenUp.release();
    }
  }

  /** Handing back waits for the server without a limit; this does not. */
  async #endInTime(stopping: Promise<void>): Promise<void> {
    const inTime = new AbortController();
    const late = this.#options.clock.sleep(STOP_TIMEOUT_MS, inTime.signal).then(() => 'late');
    const outcome = await Promise.race([stopping, late]);
    inTime.abort();
    if (outcome !== 'late') return;
    stopping.catch(() => undefined);
    this.#failure ??= new QianmoError({
      kind: 'failed',
      what: `this worker could not hand its job back within ${STOP_TIMEOUT_MS} ms`,
      cure: 'no action needed: the job is delivered again when its lock has ended',
    });
  }

  /** Has the queue hand over a job, unless the worker has to rest first. */
  async #takeNext(): Promise<void> {
    if (this.#isResting) return;
    this.#isResting = true;
    // The latest beat is recent enough for a worker that does its jobs.
    const isDoubtful = this.#rest.isDoubtful || this.#isQuarantined;
    const quarantinedMs = isDoubtful ? await this.#quarantinedMs() : 0;
    const restMs = Math.max(this.#rest.take(), quarantinedMs);
    if (restMs >= TOLD_REST_MS_MIN) this.#onEvent({ kind: 'worker-resting', restMs });
    if (restMs > 0) {
      this.#opened?.consumer.pause();
      await this.#options.clock.sleep(restMs, this.#stop.signal);
    }
    this.#isResting = false;
    if (this.#computing === null) this.#take({ waits: true, heldMax: 1 });
  }

  #take(how: TakeTerms): void {
    if (!this.#stop.signal.aborted) this.#opened?.consumer.takeOne(how);
  }

  /** Others may do better with the job that this worker has not begun. */
  #giveBackWaiting(): void {
    this.#givingBack.abort();
    this.#givingBack = new AbortController();
  }

  /** How much longer a coordinator wants this worker to take no job. */
  async #quarantinedMs(): Promise<number> {
    try {
      return (await this.#opened?.consumer.quarantinedMs()) ?? 0;
    } catch (error) {
      this.#report(error);
      return 0;
    }
  }

  /** Sends heartbeats, and checks whether the worker is quarantined. */
  async #keepAlive(consumer: JobConsumer): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      await clock.sleep(BEAT_INTERVAL_MS, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      const [jobId = null] = this.#heldIds;
      await consumer.beat(jobId).catch((error: unknown) => this.#report(error));
      this.#isQuarantined = (await this.#quarantinedMs()) > 0;
      if (!this.#isQuarantined) continue;
      consumer.pause();
      this.#giveBackWaiting();
      void this.#takeNext();
    }
  }

  #report(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#onError(error instanceof Error ? error : new Error(String(error)));
  }

  #begin(job: TakenJob, carrier: JobCarrier, lost: AbortSignal, givenUp: AbortSignal): HeldJob {
    const { data, refusal } = job;
    const fetching =
      refusal === undefined
        ? fetchJob(data, carrier, givenUp)
        : Promise.reject(new JobFailedError({ kind: 'refused', reason: refusal }));
    // The failure is thrown where the job is carried; this prevents an unhandled rejection.
    fetching.catch(() => undefined);
    return { job, carrier, fetching, lost, givenUp };
  }

  async #carry(held: HeldJob): Promise<JobOutcome> {
    const { job, carrier, fetching, lost, givenUp } = held;
    if (!(await this.#hasTurn(held))) return this.#handBack(job);
    const computed = new AbortController();
    const onComputed = (): void => {
      if (computed.signal.aborted) return;
      this.#computing = null;
      // A custom reason avoids the exception that the platform would make.
      computed.abort('computed');
      if (this.#rest.isDoubtful) this.#giveBackWaiting();
      void this.#takeNext();
    };
    this.#computing = computed.signal;
    // A queue that goes on waiting would take a job from an idle worker.
    this.#opened?.consumer.pause();
    try {
      const input = await fetching;
      const { runId, outerStep, jobIndex } = input.job;
      this.#onEvent({ kind: 'job-started', jobId: job.jobId, runId, outerStep, jobIndex });
      void this.#lookAhead(computed.signal);
      const result = await carryJob(input, carrier, givenUp, () => {
        // A join is no sign that the worker can compute.
        if (!('nodes' in input)) this.#rest.did();
        onComputed();
      });
      const { computeMs } = result;
      if (!('nodes' in input)) this.#latestComputeMs = computeMs;
      const residentByteCount = carrier.executor.residentByteCount?.() ?? null;
      this.#onEvent({
        ...{ kind: 'job-finished', jobId: job.jobId, runId, outerStep, jobIndex, computeMs },
        ...(residentByteCount === null ? {} : { residentByteCount }),
      });
      return { kind: 'completed', result };
    } catch (error) {
      if (this.#stop.signal.aborted) return this.#handBack(job);
      if (lost.aborted) return { kind: 'lost' };
      if (!(error instanceof JobFailedError)) throw error;
      const { kind: failure, reason } = error.failure;
      const cause = REST_CAUSE_BY_FAILURE[failure];
      if (cause !== null) this.#rest.couldNot(cause);
      this.#onEvent({ kind: 'job-failed', jobId: job.jobId, failure, reason });
      return { kind: 'failed', failure: error.failure };
    } finally {
      onComputed();
    }
  }

  /** Waits for the executor. Returns false if the job has to go back. */
  async #hasTurn({ fetching, givenUp }: HeldJob): Promise<boolean> {
    const computing = this.#computing;
    if (computing === null) return !givenUp.aborted;
    const givingBack = this.#givingBack.signal;
    const { executor, clock } = this.#options;
    const over = new AnyOf(computing, givenUp, givingBack);
    const announce = (input: CarriedInput | null): void => {
      // A join is not computed by the executor.
      if (input !== null && 'nodes' in input) return;
      if (input === null || !over.signal.aborted) executor.prepare?.(input);
    };
    fetching.then(announce, () => undefined);
    await clock.sleep(AHEAD_HELD_MS_MAX, over.signal);
    over.release();
    const isFree = computing.aborted && this.#computing === null;
    if (isFree && !givenUp.aborted && !givingBack.aborted) return true;
    fetching.then(
      () => announce(null),
      () => undefined,
    );
    return false;
  }

  /** Takes a job to fetch its inputs while another one is computed, if one waits that no idle worker wanted. */
  async #lookAhead(computed: AbortSignal): Promise<void> {
    const afterMs = Math.max(AHEAD_AFTER_MS, AHEAD_AFTER_SHARE * this.#latestComputeMs);
    await this.#options.clock.sleep(afterMs, computed);
    if (!computed.aborted && !this.#rest.isDoubtful) this.#take({ waits: false, heldMax: 2 });
  }

  #handBack({ jobId }: TakenJob): JobOutcome {
    this.#onEvent({ kind: 'job-handed-back', jobId });
    return { kind: 'handed-back' };
  }
}

/** A signal that aborts with any of others. `AbortSignal.any` would stay known to signals that live as long as the worker. */
class AnyOf {
  readonly #controller = new AbortController();
  readonly #sources: readonly AbortSignal[];
  readonly #abort = (): void => this.#controller.abort('one of its sources aborted');

  constructor(...sources: readonly AbortSignal[]) {
    this.#sources = sources;
    for (const source of sources) source.addEventListener('abort', this.#abort);
    if (sources.some(({ aborted }) => aborted)) this.#abort();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  release(): void {
    for (const source of this.#sources) source.removeEventListener('abort', this.#abort);
    this.#abort();
  }
}

/** The first and the longest rest of each kind, in milliseconds. Rests double with every job. */
const RESTS = {
  /** Bounds the time that another run, whose jobs the worker could do, waits for it. */
  refused: { firstMs: 1_000, longestMs: 10_000 },
  sick: { firstMs: 1_000, longestMs: 60_000 },
  /** Short, because the failure may be the job's. */
  failed: { firstMs: 50, longestMs: 10_000 },
} as const;

type RestCause = keyof typeof RESTS;

/**
 * Keeps a worker away from the queue for a while after jobs that it could not do. It is idle and
 * quick, so it would take every job from the workers that can do them.
 */
export class WorkerRest {
  /** Jobs that the worker could not do since it last did one. */
  #undoneCount = 0;
  #dueMs = 0;

  /** True when the worker could not do its latest job. It then holds no job ahead. */
  get isDoubtful(): boolean {
    return this.#undoneCount > 0;
  }

  couldNot(cause: RestCause): void {
    const { firstMs, longestMs } = RESTS[cause];
    this.#dueMs = Math.min(firstMs * 2 ** this.#undoneCount, longestMs);
    this.#undoneCount += 1;
  }

  did(): void {
    this.#undoneCount = 0;
    this.#dueMs = 0;
  }

  /** Returns the rest that is due, in milliseconds. It is due once. */
  take(): number {
    const dueMs = this.#dueMs;
    this.#dueMs = 0;
    return dueMs;
  }
}

/** Null for an executor that tells no device. */
function ownReport(
  executor: Pick<JobExecutor, 'foundDevice' | 'residentByteCount'>,
): WorkerReport | null {
  if (executor.foundDevice === undefined) return null;
  const found = executor.foundDevice();
  return {
    device: found && deviceOf(found),
    residentByteCount: process.memoryUsage.rss(),
    computeResidentByteCount: executor.residentByteCount?.() ?? null,
  };
}

function deviceOf({
  device: kind,
  gpu,
  processor,
  fingerprint: found,
  isPortable,
}: FoundDevice): WorkerReport['device'] {
  const fingerprint = isPortable ? null : found;
  if (kind === 'cpu') return { kind, model: processor, memoryMiB: null, fingerprint };
  return { kind, model: gpu?.name ?? '', memoryMiB: gpu?.memoryMiB ?? null, fingerprint };
}
