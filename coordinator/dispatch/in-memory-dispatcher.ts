/**
 * Hands jobs to executors of this machine directly, without a queue. It admits and retries by the same rules as the
 * queue dispatcher, and starts more executors while others compute, where they pay off.
 */

import { setMaxListeners } from 'node:events';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
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
import { GrowingLanes, type StartMore } from './executor-lanes.js';
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
    run(orders, read, signal, terms = {}) {
      const [stop, over] = [new AbortController(), new AbortController()];
      // Each executor listens to it.
      setMaxListeners(Number.POSITIVE_INFINITY, stop.signal);
      let onRead = (): void => undefined;
      const isRead = new Promise<void>((resolve) => (onRead = resolve));
      const call = {
        ...{
          ...options,
          ...terms,
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
  const job = jobOf(order, refOf, { epoch: 0, fingerprint, notBy: [] });
  return { job, dense, rowPack, frozen };
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
  return new QianmoError({
    kind: 'interrupted',
    what: 'stopped before every job had a result',
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
export function inOrderOfArrival<Value>(
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
