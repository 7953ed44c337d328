/**
 * Hands jobs to executors of this machine directly, without a queue. It admits and retries by the same rules as the
 * queue dispatcher, and starts more executors while others compute, where they pay off.
 */

import { setMaxListeners } from 'node:events';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { type Job, PROTOCOL_VERSION, taskCountOf } from '../../shared/queue/protocol.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { type BlobRef, blobRefOf } from '../../shared/storage/blob-store.js';
import { Admission, admissionRecord, type AdmissionRecord } from './admission.js';
import {
  type Admitted,
  type DeliveredResult,
  type Dispatcher,
  jobOf,
  type JobOrder,
} from './dispatcher.js';
import { attemptsUsedUp, redeliveryDelayMs } from './job-delivery.js';

interface InMemoryDispatcherOptions {
  /** Each computes one job at a time. */
  readonly executors: readonly JobExecutor[];
  /** Absent where there are no others. */
  readonly startMore?: StartMore | undefined;
  readonly clock: Clock;
  readonly attemptsMax: number;
  readonly sink: RunEventSink;
}

const WORKER_NAME = 'in-process';
/** Bounds the results in memory that nobody has read. */
const UNREAD_JOBS_PER_EXECUTOR_MAX = 8;

/** `close` leaves the executors open: their owner closes them. */
export function createInMemoryDispatcher(options: InMemoryDispatcherOptions): Dispatcher {
  const record = admissionRecord(options.sink, options.clock);
  const growing = new GrowingLanes(options.executors, options.startMore);
  return {
    rejections: record.rejections,
    executorCount: () => growing.lanes.count,
    run(orders, read, signal, attemptsMax = options.attemptsMax) {
      const [stop, over] = [new AbortController(), new AbortController()];
      // Each executor listens to it.
      setMaxListeners(Number.POSITIVE_INFINITY, stop.signal);
      let onRead = (): void => undefined;
      const isRead = new Promise<void>((resolve) => (onRead = resolve));
      const call = {
        ...{
          ...options,
          attemptsMax,
          growing,
          record,
          signal: stop.signal,
          over: over.signal,
          isRead,
        },
        admission: new Admission(orders, read, record),
      };
      const endCall = growing.beginCall(orders);
      return inOrderOfArrival(
        orders.map((order) => () => admittedResult(order, call)),
        {
          unreadCountMax: growing.lanes.count * UNREAD_JOBS_PER_EXECUTOR_MAX,
          ...{ signal, interrupted, onRead },
          onAbort: () => stop.abort(),
          onEnd: () => {
            endCall();
            over.abort();
          },
        },
      );
    },
    close: () => growing.close(),
  };
}

function inputOf(order: JobOrder, { fingerprints }: AdmissionRecord): JobInput {
  const { dense, rowPack, frozen } = order;
  // Evaluations encode the same frozen inputs again, and executors keep what they made of them.
  if (frozen !== null && !refs.has(frozen)) refs.set(frozen, blobRefOf(frozen));
  const fingerprint = fingerprints.of(order.job);
  const { work, ...job } = jobOf(order, refOf, { epoch: 0, fingerprint });
  if (work.kind === 'join') throw new Error('without a queue, no sums stay in a store');
  return { job: { ...job, work }, dense, rowPack, frozen };
}

/** Names by array. Executors are shared by all dispatchers of this process. */
const refs = new WeakMap<Uint8Array, BlobRef>();
let namedCount = 0;

/** Numbers the array, because bytes that do not leave this machine are not verified. Orders of a step share arrays. */
function refOf(bytes: Uint8Array): BlobRef {
  const known = refs.get(bytes);
  if (known !== undefined) return known;
  namedCount += 1;
  const ref = { sha256: namedCount.toString(16).padStart(64, '0'), byteCount: bytes.byteLength };
  refs.set(bytes, ref);
  return ref;
}

interface DirectCall<Value extends object> extends Omit<InMemoryDispatcherOptions, 'executors'> {
  readonly admission: Admission<Value>;
  readonly record: AdmissionRecord;
  readonly growing: GrowingLanes;
  readonly signal: AbortSignal;
  /** Resolves when the first result is asked for: whoever judges results is known from then on. */
  readonly isRead: Promise<void>;
  /** Aborts when nobody reads the results of the call any more. */
  readonly over: AbortSignal;
}

async function admittedResult<Value extends object>(
  order: JobOrder,
  call: DirectCall<Value>,
): Promise<Admitted<Value>> {
  const { admission, growing, clock, attemptsMax, sink, signal, over } = call;
  const { jobIndex, outerStep } = order.job;
  const makeInput = (): JobInput => inputOf(order, call.record);
  for (let attempt = 1; ; attempt += 1) {
    const output = await outputOrTransientError(growing.lanes.execute({ makeInput, signal, over }));
    if (!(output instanceof QianmoError)) growing.note(order, output.computeMs);
    await call.isRead;
    if (over.aborted) throw interrupted();
    const judged =
      output instanceof QianmoError
        ? { reason: output.message, cause: output }
        : admission.judge(deliveredOf(makeInput().job, output));
    if (typeof judged !== 'string' && 'result' in judged) {
      order.settled?.();
      return judged;
    }
    const failure =
      typeof judged === 'string'
        ? { reason: `its result was refused: ${judged}`, rejection: judged }
        : judged;
    if (attempt >= attemptsMax) {
      const where = `outer step ${outerStep}, job ${jobIndex}`;
      throw attemptsUsedUp({ where, jobIndex }, attemptsMax, failure);
    }
    const cause = 'rejection' in failure ? 'rejected' : 'failed';
    sink({ kind: 'job-retried', outerStep, jobIndex, cause, reason: failure.reason });
    await clock.sleep(redeliveryDelayMs(attempt), over);
  }
}

/** @throws errors that another attempt cannot cure. */
async function outputOrTransientError(
  output: Promise<JobOutput>,
): Promise<JobOutput | QianmoError> {
  try {
    return await output;
  } catch (error) {
    if (error instanceof QianmoError && error.kind === 'transient') return error;
    throw error;
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
      output: refOf(output),
      taskCount: taskCountOf(job),
      worker: WORKER_NAME,
      queryRowCount: measured.queryRowCount,
      computeMs: measured.computeMs,
      backend: measured.backend,
      fingerprint: measured.fingerprint,
    },
    output,
  };
}

function interrupted(): QianmoError {
  return errorOf('interrupted', 'stopped before every job had a result', {
    cure: 'continue with --resume',
  });
}

interface ArrivalTerms {
  /** The number of things that are started and not read, at most. */
  readonly unreadCountMax: number;
  readonly signal: AbortSignal;
  readonly interrupted: () => Error;
  /** Called when the signal aborts before the end. */
  readonly onAbort: () => void;
  /** Called once, when the first one is asked for. */
  readonly onRead: () => void;
  /** Called once, when all are read or none will be. */
  readonly onEnd: () => void;
}

/**
 * Starts the first of them when it is called, and another one for each value that is read.
 *
 * @throws the first failure, when it is read, or at once if the signal aborts. The others end unheard.
 */
function inOrderOfArrival<Value>(
  starts: readonly (() => Promise<Value>)[],
  { unreadCountMax, signal, interrupted, onAbort, onRead, onEnd }: ArrivalTerms,
): AsyncGenerator<Value> {
  const arrived: PromiseSettledResult<Value>[] = [];
  let startedCount = 0;
  let readCount = 0;
  let wake = (): void => undefined;
  const arrive = (settled: PromiseSettledResult<Value>): void => {
    arrived.push(settled);
    wake();
  };
  const startSome = (): void => {
    for (const start of starts.slice(startedCount, readCount + unreadCountMax)) {
      startedCount += 1;
      start().then(
        (value) => arrive({ status: 'fulfilled', value }),
        (reason: unknown) => arrive({ status: 'rejected', reason }),
      );
    }
  };
  const stop = (): void => {
    onAbort();
    wake();
  };
  signal.addEventListener('abort', stop, { once: true });
  if (!signal.aborted) startSome();
  async function* read(): AsyncGenerator<Value> {
    onRead();
    try {
      while (readCount < starts.length) {
        if (signal.aborted) throw interrupted();
        const settled = arrived.shift();
        if (settled === undefined) {
          await new Promise<void>((resolve) => (wake = resolve));
          continue;
        }
        if (settled.status === 'rejected') throw settled.reason;
        readCount += 1;
        startSome();
        yield settled.value;
      }
    } finally {
      signal.removeEventListener('abort', stop);
      onEnd();
    }
  }
  return read();
}

interface LaneJob {
  /** Makes the inputs when an executor takes the job, so that few of them are in memory. */
  readonly makeInput: () => JobInput;
  readonly signal: AbortSignal;
  /** Aborts when nobody wants the result any more. A job that no executor has begun is dropped then. */
  readonly over: AbortSignal;
}

interface WaitingJob extends LaneJob {
  readonly resolve: (output: JobOutput) => void;
  readonly reject: (error: unknown) => void;
}

interface TakenJob extends WaitingJob {
  readonly input: JobInput;
}

interface Lane {
  readonly executor: JobExecutor;
  isFree: boolean;
  /** The job whose inputs the executor has in advance. */
  ahead: TakenJob | null;
}

class ExecutorLanes {
  readonly #lanes: Lane[] = [];
  readonly #waiting: WaitingJob[] = [];

  constructor(executors: readonly JobExecutor[]) {
    this.add(executors);
  }

  get count(): number {
    return this.#lanes.length;
  }

  /** They take jobs that wait at once. */
  add(executors: readonly JobExecutor[]): void {
    for (const executor of executors) this.#lanes.push({ executor, isFree: true, ahead: null });
    this.#beginAll();
  }

  /** @throws what the executor throws. The promise of a job that is dropped never settles. */
  execute(job: LaneJob): Promise<JobOutput> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...job, resolve, reject });
      this.#beginAll();
      for (const lane of this.#lanes) if (!lane.isFree) this.#prepareNext(lane);
    });
  }

  #beginAll(): void {
    for (const lane of this.#lanes) {
      if (!lane.isFree) continue;
      const next = takeAhead(lane) ?? this.#takeWaiting() ?? this.#takeFromBusy();
      if (next !== null) this.#begin(lane, next);
    }
  }

  #begin(lane: Lane, job: TakenJob): void {
    lane.isFree = false;
    const onEnded = (): void => {
      lane.isFree = true;
      this.#beginAll();
    };
    const computing = lane.executor.execute(job.input, job.signal);
    // The next job begins before the result of this one is processed.
    computing.then(onEnded, onEnded);
    computing.then(job.resolve, job.reject);
    this.#prepareNext(lane);
  }

  #prepareNext(lane: Lane): void {
    if (lane.ahead !== null || lane.executor.prepare === undefined) return;
    lane.ahead = this.#takeWaiting();
    if (lane.ahead !== null) lane.executor.prepare(lane.ahead.input);
  }

  #takeFromBusy(): TakenJob | null {
    for (const lane of this.#lanes) {
      const job = takeAhead(lane);
      if (job === null) continue;
      lane.executor.prepare?.(null);
      return job;
    }
    return null;
  }

  #takeWaiting(): TakenJob | null {
    for (;;) {
      const job = this.#waiting.shift();
      if (job === undefined) return null;
      if (job.over.aborted) continue;
      try {
        return { ...job, input: job.makeInput() };
      } catch (error) {
        job.reject(error);
      }
    }
  }
}

/** Null also where the caller of the job has gone. */
function takeAhead(lane: Lane): TakenJob | null {
  const { ahead, executor } = lane;
  lane.ahead = null;
  if (ahead?.over.aborted !== true) return ahead;
  executor.prepare?.(null);
  return null;
}

/** Starts executors in addition: as many as the machine has room for, up to `count`. */
export type StartMore = (count: number, signal: AbortSignal) => Promise<readonly JobExecutor[]>;

class GrowingLanes {
  readonly lanes: ExecutorLanes;
  readonly #pace = new ComputePace();
  #taskCount = 0;
  readonly #startMore: StartMore | undefined;
  readonly #closing = new AbortController();
  /** Resolves when the executors that are being started compute; null in between. */
  #starting: Promise<void> | null = null;
  /** Whether the machine has had no room for as many as were wanted. */
  #isFull = false;

  constructor(executors: readonly JobExecutor[], startMore: StartMore | undefined) {
    this.#startMore = startMore;
    this.lanes = new ExecutorLanes(executors);
  }

  /** Returns what is to be called at the end of the call. */
  beginCall(orders: readonly Pick<JobOrder, 'job'>[]): () => void {
    const taskCount = orders.reduce((sum, { job }) => sum + taskCountOf(job), 0);
    this.#taskCount += taskCount;
    return () => void (this.#taskCount -= taskCount);
  }

  /** Adds executors if the jobs computed so far say that they pay off. */
  note({ job }: Pick<JobOrder, 'job'>, computeMs: number): void {
    this.#pace.note({ taskCount: taskCountOf(job), computeMs });
    if (this.#startMore === undefined || this.#isFull || this.#starting !== null) return;
    if (this.#closing.signal.aborted) return;
    const moreCount = this.#pace.wantedCount(this.#taskCount) - this.lanes.count;
    if (moreCount > 0) this.#starting = this.#add(moreCount, this.#startMore);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#starting;
  }

  async #add(count: number, startMore: StartMore): Promise<void> {
    const { signal } = this.#closing;
    // Executors at work go on without those that cannot be started.
    const started = await startMore(count, signal).catch(() => []);
    this.#starting = null;
    this.#isFull = started.length < count;
    if (!signal.aborted) this.lanes.add(started);
  }
}

/** Time that each executor costs a call: inputs travel to another process, and results come back. */
const HAND_OVER_MS = 8;
/** Starting a process takes about a second of a core, which work that soon ends does not earn. */
const COMPUTED_MS_MIN = 500;
/** The first jobs of a run capture graphs. The fastest of so many has not. */
const JOBS_MIN = 8;
/** Jobs of seconds tell enough, however few they are. */
const COMPUTED_MS_ENOUGH = 2_000;

/** How many executors are worth their cost, as far as the jobs that were computed tell. */
class ComputePace {
  #computedMs = 0;
  /** Durations of the latest jobs. The fastest is the best estimate: others captured graphs or waited for a core. */
  readonly #msPerTask: number[] = [];

  note({ taskCount, computeMs }: Readonly<Record<'taskCount' | 'computeMs', number>>): void {
    this.#computedMs += computeMs;
    this.#msPerTask.push(computeMs / Math.max(1, taskCount));
    if (this.#msPerTask.length > JOBS_MIN) this.#msPerTask.shift();
  }

  /**
   * The number of executors with which calls of so many tasks end first. N executors compute for a share of the time and
   * cost N hand-overs, which is least at the square root. 1 until there is something to tell.
   */
  wantedCount(taskCount: number): number {
    const isKnown =
      (this.#msPerTask.length >= JOBS_MIN && this.#computedMs >= COMPUTED_MS_MIN) ||
      this.#computedMs >= COMPUTED_MS_ENOUGH;
    if (!isKnown) return 1;
    const computeMs = Math.min(...this.#msPerTask) * taskCount;
    const best = Math.floor(Math.sqrt(computeMs / HAND_OVER_MS));
    return Math.max(1, Math.min(best, taskCount));
  }
}
