/**
 * The loop of a worker. It takes jobs of any run from the queue, has the executor compute them one
 * at a time, and returns the records. While a job is computed, the inputs of the next one are
 * fetched and the output of the previous one is put. The worker holds no state that matters and
 * never imports a tensor library: this process must always be free to renew its locks.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { DeviceDemand } from '../../shared/config/compute-config.js';
import type { RunEventOf } from '../../shared/events/run-events.js';
import type { CarriedBytes, JobExecutor } from '../../shared/queue/job-executor.js';
import type { JobFailureKind } from '../../shared/queue/job-failure.js';
import type { JobConsumer, JobQueue } from '../../shared/queue/job-queue.js';
import { QueueRefusedError, QueueUnavailableError } from '../../shared/queue/queue-errors.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import type { Span } from '../../shared/traces/span.js';
import {
  blobsOn,
  carryJob,
  ExecutorStuckError,
  fetchJob,
  JobFailedError,
  type CarriedInput,
  type JobCarrier,
} from './carry-job.js';
import { InputCache } from './input-cache.js';
import { JobTrace } from './job-trace.js';
import type { JobLimits } from './job-limits.js';
import { ownReport } from './own-report.js';
import { QueueIntake, type HeldJob } from './queue-intake.js';
import { endedInTime, stopSwitch, stuck, type StopSwitch } from './stop-switch.js';
import { jobSizeOf, WorkPace } from './work-pace.js';
import { WorkerRest, type RestCause } from './worker-rest.js';

/** Bounds the shared inputs in memory: two outer steps of a large trunk, or frozen tables. */
const SHARED_INPUT_BYTE_COUNT_MAX = 512 * 1024 * 1024;
/**
 * The interval at which a worker checks whether another worker needs the job that it holds ahead.
 */
const AHEAD_LOOK_INTERVAL_MS = 1_000;

/** The jobs of a parcel that wait for the executor while their inputs are fetched. */
const FETCHED_AHEAD_MAX = 8;
/** The results that are delivered while the executor goes on: those of small jobs wait for no round trip. */
const DELIVERED_AT_ONCE = { ofParcel: 8, alone: 1 };

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
  | 'worker-renamed'
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
  readonly executor: JobExecutor<CarriedBytes>;
  readonly clock: Clock;
  /** Ends the worker: the job under way goes back to the queue. */
  readonly signal: AbortSignal;
  readonly onEvent?: (event: WorkerEvent) => void;
  /** The blobs beside the queue by default. */
  readonly blobs?: BlobStore;
  /** The limits on what jobs may ask of this machine; none if absent. */
  readonly limits?: JobLimits;
  /** Allows the worker to hold a second job while one is computed; true by default. */
  readonly takesAhead?: boolean;
  /** Takes the spans of jobs that are traced; absent where nobody traces. */
  readonly onSpan?: ((span: Span) => void) | undefined;
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
  const report = () => ownReport(options.executor);
  const opening = { name, nonce, device, report, onError, onReconnected };
  const consumer = await queue.openConsumer(opening);
  try {
    onEvent({
      kind: 'worker-ready',
      pid: process.pid,
      server: consumer.server,
      redisAddress: queue.address,
    });
    if (consumer.name !== name) onEvent({ kind: 'worker-renamed', nameOnQueue: consumer.name });
    await workUntilStopped(options, consumer, onEvent, onError);
    onEvent({ kind: 'worker-stopped' });
  } finally {
    await consumer.close();
  }
}

async function workUntilStopped(
  options: RunWorkerOptions,
  consumer: JobConsumer,
  onEvent: (event: WorkerEvent) => void,
  onError: (error: Error) => void,
): Promise<void> {
  const { clock, signal, takesAhead = true } = options;
  const carrier = carrierOf(options, consumer, onError);
  const intake = new QueueIntake({ consumer, clock, onError });
  const [stop, rest] = [stopSwitch(signal), new WorkerRest()];
  const pace = new WorkPace();
  const fetches = new WeakMap<HeldJob, Promise<CarriedInput>>();
  const traces = { byJob: new WeakMap<HeldJob, JobTrace | null>(), onSpan: options.onSpan };
  const bench = { carrier, intake, stop, rest, pace, fetches, traces, onEvent, takesAhead };
  const working = workThroughJobs(bench).finally(() => intake.close());
  // The work ends by itself only when it throws.
  await Promise.race([bench.stop.stopped, working]);
  intake.stopTaking();
  await endedInTime(working, clock, bench.stop);
  if (bench.stop.failure !== undefined) throw bench.stop.failure;
}

function carrierOf(
  options: RunWorkerOptions,
  consumer: JobConsumer,
  onTrouble: (error: Error) => void,
): JobCarrier {
  const { executor, clock, blobs, limits } = options;
  return {
    blobsOf: blobs === undefined ? blobsOn(consumer) : () => blobs,
    sharedInputs: new InputCache(SHARED_INPUT_BYTE_COUNT_MAX),
    executor,
    clock,
    workerName: consumer.name,
    onTrouble,
    ...(limits === undefined ? {} : { limits }),
  };
}

/** The parts of a worker that the steps of its loop share. */
interface WorkBench {
  readonly carrier: JobCarrier;
  readonly intake: QueueIntake;
  readonly stop: StopSwitch;
  readonly rest: WorkerRest;
  readonly pace: WorkPace;
  /** Of held jobs, their inputs. */
  readonly fetches: WeakMap<HeldJob, Promise<CarriedInput>>;
  readonly traces: {
    readonly byJob: WeakMap<HeldJob, JobTrace | null>;
    readonly onSpan: ((span: Span) => void) | undefined;
  };
  readonly onEvent: (event: WorkerEvent) => void;
  readonly takesAhead: boolean;
}

/** A held job whose inputs are being fetched. */
interface TakenJob {
  readonly held: HeldJob;
  readonly fetching: Promise<CarriedInput>;
}

/** Ends when the worker is told to stop. Jobs that it still held have been handed back by then. */
async function workThroughJobs(bench: WorkBench): Promise<void> {
  const { stop, rest } = bench;
  let ahead: TakenJob | null = null;
  const delivering: Promise<void>[] = [];
  while (!stop.signal.aborted) {
    const held: HeldJob | null = ahead === null ? await nextAfterRest(bench) : ahead.held;
    if (held === null) continue;
    const taken: TakenJob = ahead ?? { held, fetching: fetching(held, bench) };
    const carrying = carried(taken, bench);
    const takesAhead = bench.takesAhead && !rest.isDoubtful;
    ahead = takesAhead ? await takenAhead(carrying.computed, bench) : null;
    await carrying.computed;
    const { ofParcel, alone } = DELIVERED_AT_ONCE;
    delivering.push(carrying.settled);
    const leftCount = held.isOfParcel ? ofParcel : alone;
    await Promise.all(delivering.splice(0, delivering.length - leftCount));
  }
  if (ahead !== null) await handBack(ahead, bench);
  await Promise.all(delivering);
}

async function nextAfterRest(bench: WorkBench): Promise<HeldJob | null> {
  const { carrier, intake, stop, rest, onEvent } = bench;
  const restMs = Math.max(rest.take(), await intake.quarantinedMs(rest.isDoubtful));
  if (restMs >= TOLD_REST_MS_MIN) onEvent({ kind: 'worker-resting', restMs });
  // Others may do better with the jobs that came together with one that failed.
  if (restMs > 0 || rest.isDoubtful) await intake.handBackWaiting();
  if (restMs > 0) await carrier.clock.sleep(restMs, stop.signal);
  return intake.next();
}

/** The carrier with the job's trace, and name and blobs of its own queue. */
function carrierFor(held: HeldJob, bench: WorkBench): JobCarrier {
  const { origin } = held;
  const trace = traceOf(held, bench);
  const carrier = trace === null ? bench.carrier : { ...bench.carrier, trace };
  if (origin === undefined) return carrier;
  return { ...carrier, blobsOf: blobsOn(origin), workerName: origin.name };
}

function traceOf(
  held: HeldJob,
  { traces: { byJob, onSpan }, carrier }: WorkBench,
): JobTrace | null {
  const known = byJob.get(held);
  if (known !== undefined) return known;
  const { jobId, traced } = held;
  const origin = traced === undefined ? null : { ...traced, jobId };
  const trace = JobTrace.of(origin, carrier.clock, onSpan);
  byJob.set(held, trace);
  return trace;
}

/** Begins to fetch the inputs of a job, and of those that came with it. */
function fetching(held: HeldJob, bench: WorkBench): Promise<CarriedInput> {
  const ofJob = fetchingOne(held, bench);
  for (const next of bench.intake.waiting.slice(0, FETCHED_AHEAD_MAX))
    void fetchingOne(next, bench);
  return ofJob;
}

function fetchingOne(held: HeldJob, bench: WorkBench): Promise<CarriedInput> {
  const known = bench.fetches.get(held);
  if (known !== undefined) return known;
  const { refusal, data, lost } = held;
  const carrier = carrierFor(held, bench);
  const input =
    refusal === undefined
      ? fetchJob(data, carrier, lost)
      : Promise.reject(new JobFailedError({ kind: 'refused', reason: refusal }));
  // The failure is thrown where the job is carried; this prevents an unhandled rejection.
  input.catch(() => undefined);
  bench.fetches.set(held, input);
  return input;
}

/**
 * Takes a job to compute after the one under way, when the queue has plenty. The job is handed back
 * when the one under way takes so long that others run out of work.
 *
 * @param computed resolves when the executor is free again.
 */
async function takenAhead(computed: Promise<void>, bench: WorkBench): Promise<TakenJob | null> {
  const { intake, carrier, pace, stop } = bench;
  const isFree = new AbortController();
  // A reason of its own spares the exception that the platform would make.
  void computed.then(() => isFree.abort('computed'));
  const held = await heldAhead(isFree.signal, bench);
  if (held === null) return null;
  const takenMs = carrier.clock.monotonicMs();
  const taken = { held, fetching: fetching(held, bench) };
  void taken.fetching.then(
    (input) => {
      pace.fetched(carrier.clock.monotonicMs() - takenMs);
      carrier.executor.prepare?.(input);
    },
    () => undefined,
  );
  for (;;) {
    await carrier.clock.sleep(AHEAD_LOOK_INTERVAL_MS, isFree.signal);
    if (isFree.signal.aborted || stop.signal.aborted) return taken;
    if (held.lost.aborted) return null;
    if (await intake.isQueueEmptyForOthers()) {
      await handBack(taken, bench);
      return null;
    }
  }
}

/**
 * Takes a job at once where the queue has plenty. Otherwise it waits until the job under way is about to
 * end: a worker that is idle by then has taken what it wanted, and none waits behind a long job.
 */
async function heldAhead(isFree: AbortSignal, bench: WorkBench): Promise<HeldJob | null> {
  const { intake, carrier, pace, stop } = bench;
  const held = await intake.nextAhead({ onlyOfPlenty: true });
  if (held !== null) return held;
  await pace.hasInputs();
  await carrier.clock.sleep(pace.waitMs(carrier.clock.monotonicMs()), isFree);
  if (isFree.aborted || stop.signal.aborted) return null;
  return intake.nextAhead({ onlyOfPlenty: false });
}

async function handBack({ held, fetching }: TakenJob, bench: WorkBench): Promise<void> {
  const { carrier, onEvent } = bench;
  void fetching.then(
    (input) => carrier.executor.forget?.(input),
    () => undefined,
  );
  await held.handBack();
  traceOf(held, bench)?.end('handed back', carrier.workerName);
  onEvent({ kind: 'job-handed-back', jobId: held.jobId });
}

interface Carrying {
  /** Resolves when the executor is free again, however the job went. */
  readonly computed: Promise<void>;
  /** Resolves when the job is no longer this worker's. */
  readonly settled: Promise<void>;
}

function carried(taken: TakenJob, bench: WorkBench): Carrying {
  let isComputed = (): void => undefined;
  const computed = new Promise<void>((resolve) => {
    isComputed = resolve;
  });
  const settled = carriedToItsEnd(taken, bench, isComputed).finally(isComputed);
  // It is thrown where it is awaited, which is later.
  settled.catch(() => undefined);
  return { computed, settled };
}

async function carriedToItsEnd(
  { held, fetching }: TakenJob,
  bench: WorkBench,
  onComputed: () => void,
): Promise<void> {
  const { stop, rest, pace, onEvent } = bench;
  const { jobId } = held;
  const giveUp = new AbortController();
  const onGiveUp = (): void => giveUp.abort();
  for (const source of [stop.signal, held.lost]) {
    if (source.aborted) onGiveUp();
    source.addEventListener('abort', onGiveUp, { once: true });
  }
  try {
    const input = await pace.begins(fetching);
    const { runId, outerStep, jobIndex } = input.job;
    onEvent({ kind: 'job-started', jobId, runId, outerStep, jobIndex });
    const size = jobSizeOf(input.job);
    pace.started(bench.carrier.clock.monotonicMs(), size);
    const result = await carryJob(input, carrierFor(held, bench), giveUp.signal, onComputed);
    rest.did();
    const { computeMs } = result;
    pace.computed(computeMs, size);
    const residentByteCount = bench.carrier.executor.residentByteCount?.() ?? null;
    onEvent({
      ...{ kind: 'job-finished', jobId, runId, outerStep, jobIndex, computeMs },
      ...(residentByteCount === null ? {} : { residentByteCount }),
    });
    await held.complete(result);
    traceOf(held, bench)?.end('finished', result.worker);
  } catch (error) {
    if (error instanceof ExecutorStuckError) stop.fail(stuck(error));
    if (stop.signal.aborted) {
      await held.handBack();
      onEvent({ kind: 'job-handed-back', jobId });
      if (error instanceof JobFailedError || error instanceof ExecutorStuckError) return;
    }
    if (!(error instanceof JobFailedError)) throw error;
    const { kind: failure, reason } = error.failure;
    const cause = REST_CAUSE_BY_FAILURE[failure];
    if (cause !== null) rest.couldNot(cause);
    onEvent({ kind: 'job-failed', jobId, failure, reason });
    traceOf(held, bench)?.end('failed', bench.carrier.workerName);
    await held.fail(error.failure);
  } finally {
    // Listeners would pile up on signals that outlive the job: the worker's own, and that of a parcel.
    for (const source of [stop.signal, held.lost]) source.removeEventListener('abort', onGiveUp);
  }
}
