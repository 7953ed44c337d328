/**
 * The loop of a worker. Its queues hand it jobs of any run (`JobConsumer`); the executor computes them one at a time.
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
  TakenJob,
  TakeTerms,
} from '../../shared/queue/job-queue.js';
import { WORKER_BEAT_INTERVAL_MS } from '../../shared/queue/timing.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import {
  blobsOn,
  type CarriedInput,
  carryJob,
  ExecutorStuckError,
  fetchJob,
  InputCache,
  type JobCarrier,
  JobFailedError,
} from './carry-job.js';
import { type ExecutorTurn, ExecutorTurns } from './executor-turns.js';
import type { JobLimits } from './job-limits.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { FoundDevice } from '../../shared/events/device-report.js';
import type { WorkerReport } from '../../shared/queue/worker-report.js';

/** Bounds the shared inputs in memory: two outer steps of a large trunk, or frozen tables. */
const SHARED_INPUT_BYTE_COUNT_MAX = 512 * 1024 * 1024;

/** A worker looks for its next job when it has computed for this long. Idle workers have taken theirs by then. */
const AHEAD_AFTER_MS = 50;
/** A job that has waited for the executor this long goes back: another worker may be idle. */
const AHEAD_HELD_MS_MAX = 1_000;

/** Shorter rests are not told. */
const TOLD_REST_MS_MIN = 1_000;

/** Null where the worker is not in doubt. */
const REST_CAUSE_BY_FAILURE: Readonly<Record<JobFailureKind, RestCause | null>> = {
  refused: 'refused',
  declined: 'declined',
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

type QueueEnd = Pick<JobQueue, 'address' | 'openConsumer'>;

interface QueueShare {
  readonly queue: QueueEnd;
  readonly weight: number;
}

export interface RunWorkerOptions {
  /** One queue, or several that share the executor by their weights. */
  readonly queue: QueueEnd | readonly QueueShare[];
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
  /** Allows the worker to hold a second job while one is computed; true by default. */
  readonly takesAhead?: boolean;
}

/**
 * Runs until the signal aborts.
 *
 * @throws QianmoError `environment` when the queue's server is down at the start or may evict keys,
 *   `failed` when the executor ignores its signal; the process should then end.
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
  const onReconnected = (): void => {
    lastTrouble = '';
  };
  const shares = 'openConsumer' in queue ? [{ queue, weight: 1 }] : queue;
  const report = () => ownReport(options.executor);
  const turns = new ExecutorTurns(
    shares.map(({ weight }) => weight),
    options.clock,
  );
  const bench = new WorkBench(options, turns, { onEvent, onError });
  const opening = { name, nonce, device, report, onError, onReconnected };
  try {
    for (const share of shares) {
      const consumer = await bench.open(share.queue, opening);
      const { server } = consumer;
      onEvent({
        ...{ kind: 'worker-ready', pid: process.pid, server },
        redisAddress: share.queue.address,
      });
      if (consumer.name !== name) onEvent(workerRenamed(consumer.name));
    }
    await bench.workUntilStopped();
    onEvent({ kind: 'worker-stopped' });
  } finally {
    await bench.close();
  }
}

interface Station {
  readonly place: number;
  readonly consumer: JobConsumer;
  readonly carrier: JobCarrier;
  /** Taken jobs that wait for the executor. */
  waitingCount: number;
}

interface HeldJob {
  readonly station: Station;
  readonly job: TakenJob;
  readonly carrier: JobCarrier;
  readonly fetching: Promise<CarriedInput>;
  readonly lost: AbortSignal;
  /** Aborts when the worker must give the job up: it stops, or the lock is lost. */
  readonly givenUp: AbortSignal;
}

interface Reports {
  readonly onEvent: (event: WorkerEvent) => void;
  readonly onError: (error: Error) => void;
}

class WorkBench {
  readonly #options: RunWorkerOptions;
  readonly #turns: ExecutorTurns;
  readonly #reports: Reports;
  readonly #stop: StopSwitch;
  readonly #rest = new WorkerRest();
  readonly #sharedInputs = new InputCache(SHARED_INPUT_BYTE_COUNT_MAX);
  readonly #stations: Station[] = [];
  readonly #heldIds = new Set<string>();
  /** Aborts when the jobs that wait for the executor are to go back. */
  #givingBack = new AbortController();
  /** Whether the latest beat found a quarantine. */
  #isQuarantined = true;
  #isResting = false;
  #isComputing = false;

  constructor(options: RunWorkerOptions, turns: ExecutorTurns, reports: Reports) {
    this.#options = options;
    this.#turns = turns;
    this.#reports = reports;
    this.#stop = stopSwitch(options.signal);
  }

  async open(
    queue: QueueEnd,
    opening: Omit<Parameters<QueueEnd['openConsumer']>[0], 'process'>,
  ): Promise<JobConsumer> {
    const place = this.#stations.length;
    const consumer: JobConsumer = await queue.openConsumer({
      ...opening,
      process: (job, lost) => this.#process(job, lost, place),
    });
    const { executor, clock, blobs, limits } = this.#options;
    const carrier = {
      ...{ executor, clock, sharedInputs: this.#sharedInputs, workerName: consumer.name },
      blobsOf: blobs === undefined ? blobsOn(consumer) : () => blobs,
      onTrouble: this.#reports.onError,
      ...(limits === undefined ? {} : { limits }),
    };
    this.#stations.push({ place, consumer, carrier, waitingCount: 0 });
    return consumer;
  }

  async workUntilStopped(): Promise<void> {
    void this.#keepAlive();
    await this.#takeNext();
    await this.#stop.stopped;
    const stopping = Promise.all(this.#stations.map(({ consumer }) => consumer.stop()));
    await endedInTime(stopping, this.#options.clock, this.#stop);
    if (this.#stop.failure !== undefined) throw this.#stop.failure;
  }

  async close(): Promise<void> {
    for (const { consumer } of this.#stations) await consumer.close();
  }

  /** Has the queues hand over a job each, unless the worker has to rest first. */
  async #takeNext(): Promise<void> {
    if (this.#isResting) return;
    this.#isResting = true;
    // An answer of the latest beat is recent enough for a worker that does its jobs.
    const isDoubtful = this.#rest.isDoubtful || this.#isQuarantined;
    const quarantinedMs = isDoubtful ? await this.#quarantinedMs() : 0;
    const restMs = Math.max(this.#rest.take(), quarantinedMs);
    if (restMs >= TOLD_REST_MS_MIN) this.#reports.onEvent({ kind: 'worker-resting', restMs });
    if (restMs > 0) {
      this.#pause();
      await this.#options.clock.sleep(restMs, this.#stop.signal);
    }
    this.#isResting = false;
    if (!this.#isComputing) this.#take({ waits: true, heldMax: 1 });
  }

  #take(how: TakeTerms): void {
    if (this.#stop.signal.aborted) return;
    for (const { consumer, waitingCount } of this.#stations)
      if (waitingCount === 0) consumer.takeOne(how);
  }

  #pause(): void {
    for (const { consumer } of this.#stations) consumer.pause();
  }

  /** Others may do better with the jobs that this worker has not begun. */
  #giveBackWaiting(): void {
    this.#givingBack.abort();
    this.#givingBack = new AbortController();
  }

  /** How much longer a coordinator wants this worker to take no job. A machine that is sick for one run rests for all. */
  async #quarantinedMs(): Promise<number> {
    const asked = this.#stations.map(({ consumer }) =>
      consumer.quarantinedMs().catch((error: unknown) => {
        this.#report(error);
        return 0;
      }),
    );
    return Math.max(0, ...(await Promise.all(asked)));
  }

  /** Says at intervals that this worker lives, and looks whether it is quarantined. */
  async #keepAlive(): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      await clock.sleep(WORKER_BEAT_INTERVAL_MS, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      const [jobId = null] = this.#heldIds;
      const beats = this.#stations.map(({ consumer }) => consumer.beat(jobId));
      for (const beat of await Promise.allSettled(beats))
        if (beat.status === 'rejected') this.#report(beat.reason);
      this.#isQuarantined = (await this.#quarantinedMs()) > 0;
      if (!this.#isQuarantined) continue;
      this.#pause();
      this.#giveBackWaiting();
      void this.#takeNext();
    }
  }

  #report(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#reports.onError(error instanceof Error ? error : new Error(String(error)));
  }

  async #process(job: TakenJob, lost: AbortSignal, place: number): Promise<JobOutcome> {
    const station = this.#stations[place];
    if (station === undefined || this.#isResting || this.#stop.signal.aborted)
      return this.#handBack(job);
    this.#heldIds.add(job.jobId);
    const giveUp = new AbortController();
    const onGiveUp = (): void => giveUp.abort();
    for (const source of [this.#stop.signal, lost])
      source.addEventListener('abort', onGiveUp, { once: true });
    if (lost.aborted) onGiveUp();
    const turn = this.#turns.request(place);
    try {
      const held = this.#begun(job, station, { lost, givenUp: giveUp.signal });
      return await this.#carried(held, turn);
    } catch (error) {
      this.#stop.fail(error instanceof Error ? error : new Error(String(error)));
      return { kind: 'handed-back' };
    } finally {
      this.#heldIds.delete(job.jobId);
      // Listeners would pile up on the signal of the worker.
      for (const source of [this.#stop.signal, lost]) source.removeEventListener('abort', onGiveUp);
      turn.end();
    }
  }

  #begun(job: TakenJob, station: Station, signals: Pick<HeldJob, 'lost' | 'givenUp'>): HeldJob {
    const { data, refusal } = job;
    const { carrier } = station;
    const fetching =
      refusal === undefined
        ? fetchJob(data, carrier, signals.givenUp)
        : Promise.reject(new JobFailedError({ kind: 'refused', reason: refusal }));
    // The failure is thrown where the job is carried; this prevents an unhandled rejection.
    fetching.catch(() => undefined);
    return { station, job, carrier, fetching, ...signals };
  }

  async #carried(held: HeldJob, turn: ExecutorTurn): Promise<JobOutcome> {
    const { job, carrier, fetching, lost, givenUp } = held;
    const { onEvent } = this.#reports;
    if (!(await this.#hasTurn(held, turn))) return this.#handBack(job);
    const computed = new AbortController();
    const onComputed = (): void => {
      if (computed.signal.aborted) return;
      // A reason of its own spares the exception that the platform would make.
      computed.abort('computed');
      this.#isComputing = false;
      if (this.#rest.isDoubtful) this.#giveBackWaiting();
      turn.end();
      void this.#takeNext();
    };
    this.#isComputing = true;
    // Queues that go on waiting would take jobs from idle workers.
    this.#pause();
    try {
      const input = await fetching;
      const { runId, outerStep, jobIndex } = input.job;
      onEvent({ kind: 'job-started', jobId: job.jobId, runId, outerStep, jobIndex });
      void this.#lookAhead(computed.signal);
      const computing = carryJob(input, carrier, givenUp, () => {
        this.#rest.did();
        onComputed();
      });
      const result = await computing;
      const { computeMs } = result;
      const residentByteCount = carrier.executor.residentByteCount?.() ?? null;
      onEvent({
        ...{ kind: 'job-finished', jobId: job.jobId, runId, outerStep, jobIndex, computeMs },
        ...(residentByteCount === null ? {} : { residentByteCount }),
      });
      return { kind: 'completed', result };
    } catch (error) {
      if (error instanceof ExecutorStuckError) this.#stop.fail(stuck(error));
      if (this.#stop.signal.aborted) return this.#handBack(job);
      if (lost.aborted) return { kind: 'lost' };
      if (!(error instanceof JobFailedError)) throw error;
      const { kind: failure, reason } = error.failure;
      const cause = REST_CAUSE_BY_FAILURE[failure];
      if (cause !== null) this.#rest.couldNot(cause);
      onEvent({ kind: 'job-failed', jobId: job.jobId, failure, reason });
      return { kind: 'failed', failure: error.failure };
    } finally {
      onComputed();
    }
  }

  /** Waits for the executor. Returns false if the job has to go back. */
  async #hasTurn(held: HeldJob, turn: ExecutorTurn): Promise<boolean> {
    const { station, fetching, givenUp } = held;
    const { executor, clock } = this.#options;
    const isAlone = this.#stations.length === 1;
    const over = new AbortController();
    const end = (): void => over.abort('over');
    const givingBack = this.#givingBack.signal;
    if (givenUp.aborted) end();
    for (const source of [givenUp, givingBack]) source.addEventListener('abort', end);
    void turn.granted.then(end);
    station.waitingCount += 1;
    if (isAlone && !turn.isGranted)
      fetching.then(
        (input) => {
          if (!turn.isGranted && !over.signal.aborted) executor.prepare?.(input);
        },
        () => undefined,
      );
    await clock.sleep(AHEAD_HELD_MS_MAX, over.signal);
    for (const source of [givenUp, givingBack]) source.removeEventListener('abort', end);
    over.abort('over');
    station.waitingCount -= 1;
    if (turn.isGranted && !givenUp.aborted && !givingBack.aborted) return true;
    if (isAlone)
      fetching.then(
        (input) => executor.forget?.(input),
        () => undefined,
      );
    return false;
  }

  /** Takes a job to fetch its inputs while another one is computed, if one waits that no idle worker wanted. */
  async #lookAhead(computed: AbortSignal): Promise<void> {
    const { clock, takesAhead = true } = this.#options;
    if (!takesAhead) return;
    await clock.sleep(AHEAD_AFTER_MS, computed);
    if (!computed.aborted && !this.#rest.isDoubtful) this.#take({ waits: false, heldMax: 2 });
  }

  #handBack({ jobId }: TakenJob): JobOutcome {
    this.#reports.onEvent({ kind: 'job-handed-back', jobId });
    return { kind: 'handed-back' };
  }
}

/** The first and the longest rest of each kind, in milliseconds. Rests double with every job. */
const RESTS = {
  /** Bounds the time that another run, whose jobs the worker could do, waits for it. */
  refused: { firstMs: 1_000, longestMs: 10_000 },
  /** Shorter than most delays of the job that was left to others, so that both do not keep step. */
  declined: { firstMs: 50, longestMs: 50 },
  sick: { firstMs: 1_000, longestMs: 60_000 },
  /** Short, because the failure may be the job's. */
  failed: { firstMs: 50, longestMs: 10_000 },
} as const;

export type RestCause = keyof typeof RESTS;

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

/** A worker that cannot hand its job back within this time exits anyway: the lock will end. */
const STOP_TIMEOUT_MS = 15_000;

interface StopSwitch {
  readonly stopped: Promise<void>;
  readonly signal: AbortSignal;
  failure: Error | undefined;
  fail(failure: Error): void;
}

function stopSwitch(request: AbortSignal): StopSwitch {
  const controller = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    controller.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  if (request.aborted) controller.abort();
  request.addEventListener('abort', () => controller.abort(), { once: true });
  const stop: StopSwitch = {
    stopped,
    signal: controller.signal,
    failure: undefined,
    fail: (failure) => {
      stop.failure = failure;
      controller.abort();
    },
  };
  return stop;
}

function stuck(cause: ExecutorStuckError): QianmoError {
  return new QianmoError({
    kind: 'failed',
    what: 'the executor did not stop when told to, so this worker ends',
    cause,
  });
}

/** Handing back waits for the server without a limit; this does not. */
async function endedInTime(
  working: Promise<unknown>,
  clock: Clock,
  stop: StopSwitch,
): Promise<void> {
  const inTime = new AbortController();
  const late = clock.sleep(STOP_TIMEOUT_MS, inTime.signal).then(() => 'late' as const);
  const outcome = await Promise.race([working.then(() => 'ended' as const), late]);
  inTime.abort();
  if (outcome === 'ended') return;
  working.catch(() => undefined);
  stop.failure ??= new QianmoError({
    kind: 'failed',
    what: `this worker could not hand its job back within ${STOP_TIMEOUT_MS} ms`,
    cure: 'no action needed: the job is delivered again when its lock has ended',
  });
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
  if (kind === 'cpu') return { kind, model: processor.name, memoryMiB: null, fingerprint };
  return { kind, model: gpu?.name ?? '', memoryMiB: gpu?.memoryMiB ?? null, fingerprint };
}

function workerRenamed(nameOnQueue: string): RunEventOf<'warning'> {
  const text = `shares its name with another worker, so the queue calls it ${nameOnQueue}`;
  return warningEvent('worker-renamed', text);
}
