/**
 * Carries jobs over the queue: puts their blobs, enqueues them, and yields results as they come.
 * The queue's record is the truth about a job and its event only a wake-up: every open job is read
 * again at intervals, so a lost event, a restarted or emptied server and a dead worker all end in
 * one more delivery. `job-delivery.ts` follows a single job; `shared/queue/job-queue.ts` is the
 * queue.
 */

import type { Clock } from '../../shared/base/clock.js';
import { errorOf } from '../../shared/base/errors.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import { noticeEvent, type RunEventSink } from '../../shared/events/run-events.js';
import type { JobProducer, JobQueue } from '../../shared/queue/job-queue.js';
import { startSuffixOf, type LargeBlobs } from '../../shared/queue/protocol.js';
import { RUN_LEASE_MS } from '../../shared/queue/timing.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import { thisProcess, type ProcessIdentity } from '../../shared/storage/process-identity.js';
import {
  RunFencedError,
  takeLease,
  type LeaseHolder,
  type RunEnd,
  type RunProgress,
} from '../../shared/storage/lease.js';
import { Admission, admissionRecord, MachineChoice, type AdmissionRecord } from './admission.js';
import { DispatchStep, type DispatchContext } from './dispatch-step.js';
import type { Admitted, Dispatcher, JobOrder, ReadResult } from './dispatcher.js';
import { createQueuePatience, type QueuePatience } from './queue-patience.js';
import { BlobLeases } from './step-blobs.js';
import { runLeaseTerms } from './run-lease.js';
import { WantedWorkers, WorkerCount, WorkerHealth } from './worker-health.js';
import { counted } from '../../shared/names/counted.js';

interface QueueDispatcherOptions {
  readonly queue: JobQueue;
  readonly limits: QueueConfig;
  /** The place of large blobs, for a queue that has them there; beside the queue if absent. */
  readonly largeBlobs?: LargeBlobs | undefined;
  readonly runId: string;
  /** The number of trainings that share the dispatcher at the same time, as in a sweep; 1 by default. */
  readonly trainingsAtOnce?: number | undefined;
  /**
   * Sets this start of the run apart from any other. It must not follow from the run's seed: a
   * second start would be given results that the first one ordered.
   */
  readonly nonce: string;
  /** The process that holds the lease of the run; this one by default. */
  readonly process?: ProcessIdentity;
  readonly signal?: AbortSignal;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** The blob store that workers read, beside the queue by default. */
  readonly blobs?: BlobStore;
}

/** Well below the length of the lease. */
const LEASE_RENEWAL_INTERVAL_MS = 2_000;
const OPEN_TIMEOUT_MS = 30_000;
const RELEASE_TIMEOUT_MS = 500;

/**
 * Connects, checks the server, takes the lease of the run, and removes what a dead coordinator of it left
 * waiting.
 *
 * @throws QianmoError `environment` when the server is down, refuses, or may evict keys, `taken` when
 *   another coordinator works on the run.
 */
export async function createQueueDispatcher(options: QueueDispatcherOptions): Promise<Dispatcher> {
  const { queue, limits, largeBlobs: large, nonce, clock, runId } = options;
  const record = admissionRecord(options.sink, clock);
  const { sink, fingerprints } = record;
  const producer = await queue.openProducer(nonce);
  const { blobLifetimeMs: lifetimeMs, blobByteCountMax, refusalWaitMs } = limits;
  const blobTerms = { lifetimeMs, blobByteCountMax, ...(large === undefined ? {} : { large }) };
  const blobs = options.blobs ?? producer.blobs(blobTerms);
  const patience = createQueuePatience({ where: queue.address, clock, sink, refusalWaitMs });
  const quietly = async (ask: () => Promise<unknown>): Promise<void> => {
    const untilMs = clock.monotonicMs() + RELEASE_TIMEOUT_MS;
    await patience.attemptQuietly(ask, untilMs).catch(() => undefined);
  };
  const course = new RunCourse(sink);
  const life = lifeOf(options, producer, course);
  const epoch = await enter(producer, patience, { ...options, life }).catch(
    async (error: unknown) => {
      // Release the lease now, so that the next start need not wait until it expires.
      await quietly(() => producer.releaseLease());
      // Nobody else has the producer, so it must not be left open.
      await producer.close();
      throw error;
    },
  );
  const health = new WorkerHealth({ clock, sink });
  const leases = new BlobLeases(options.trainingsAtOnce);
  const workers = (untilMs: number) =>
    patience.attemptQuietly(async () => {
      return (await producer.workers()).filter(({ name }) => health.hasHealthyOther([], [name]));
    }, untilMs);
  const context: DispatchContext = {
    ...{ epoch, beat: life.beat, producer, blobs, leases, patience, health, limits, clock, sink },
    ...{ largeBlobs: large, fingerprints },
    machines: new MachineChoice({ fingerprints, workers, clock }),
    counted: new WorkerCount(producer, clock),
  };
  const closed = new AbortController();
  void keepAlive(context, closed.signal);
  const steps = new OpenSteps(context, { record, course, nonce });
  return {
    rejections: record.rejections,
    joinsSums: true,
    executorCount: () => context.counted.latest(),
    control: {
      runId,
      tell: (training, isOver) => course.tell(training, isOver),
    },
    run: (orders, read, signal, attemptsMax = limits.jobAttemptsMax) =>
      steps.run({ orders, read, signal, attemptsMax }),
    close: async () => {
      closed.abort();
      steps.close();
      await steps.tidied;
      const unused = steps.isFenced ? [] : leases.releaseHeld();
      // Their lifetime removes them otherwise.
      await quietly(async () => {
        const released = producer.releaseLease(course.end);
        await Promise.all([...unused.map((ref) => blobs.delete(ref)), released]);
      });
      await producer.close();
    },
  };
}

interface StepDemand<Value extends object> {
  readonly orders: readonly JobOrder[];
  readonly read: ReadResult<Value>;
  readonly signal: AbortSignal;
  readonly attemptsMax: number;
}

interface StepOrigin {
  readonly record: AdmissionRecord;
  readonly course: RunCourse;
  readonly nonce: string;
}

class OpenSteps {
  readonly #context: DispatchContext;
  readonly #origin: StepOrigin;
  readonly #wanted: WantedWorkers;
  readonly #open = new Set<Pick<DispatchStep<object>, 'stop'>>();
  #openedCount = 0;
  /** Resolves when no step that has ended deletes its blobs any more. */
  tidied: Promise<unknown> = Promise.resolve();
  isFenced = false;

  constructor(context: DispatchContext, origin: StepOrigin) {
    this.#context = context;
    this.#origin = origin;
    this.#wanted = new WantedWorkers(context.sink);
    const { cancelled } = origin.course;
    cancelled.addEventListener('abort', () => this.#stop(cancelled.reason));
  }

  close(): void {
    this.#wanted.want([]);
    this.#stop();
  }

  /** Sends the first jobs at once. A failure is thrown where the results are read. */
  run<Value extends object>(demand: StepDemand<Value>): AsyncIterable<Admitted<Value>> {
    const opening = this.#opened(demand);
    opening.catch(() => undefined);
    return this.#resultsOf(opening);
  }

  /** Makes all calls end with the reason if it is a cancellation, otherwise with `interrupted`. */
  #stop(reason?: unknown): void {
    for (const step of this.#open) step.stop(reason);
  }

  async #opened<Value extends object>(demand: StepDemand<Value>): Promise<DispatchStep<Value>> {
    const { orders, read, signal, attemptsMax } = demand;
    const { record, course, nonce } = this.#origin;
    course.cancelled.throwIfAborted();
    this.#wanted.want(orders);
    if (orders[0] !== undefined) await this.#context.machines.make(orders[0].job, signal);
    this.#openedCount += 1;
    const step = new DispatchStep(this.#context, {
      ...{ orders, signal, attemptsMax },
      admission: new Admission(orders, read, record),
      idSuffix: startSuffixOf(nonce, this.#openedCount),
    });
    this.#open.add(step);
    step.sendAhead();
    return step;
  }

  async *#resultsOf<Value extends object>(
    opening: Promise<DispatchStep<Value>>,
  ): AsyncGenerator<Admitted<Value>> {
    const failed = (error: unknown): never => {
      this.isFenced ||= error instanceof RunFencedError;
      this.#origin.course.callFailed(error);
      throw error;
    };
    const step = await opening.catch(failed);
    try {
      yield* step.results();
    } catch (error) {
      failed(error);
    } finally {
      this.#open.delete(step);
      if (this.isFenced) step.abandon();
      else {
        const { hasOpenJobs } = step;
        const closed = step.close().then((isFenced) => void (this.isFenced ||= isFenced));
        this.tidied = Promise.all([this.tidied, closed]);
        // Deletions do not hold up the next outer step.
        if (hasOpenJobs) await this.tidied;
      }
    }
  }
}

/** How far a run is, and whether it has been cancelled. Both travel with renewals of its lease. */
class RunCourse {
  readonly #sink: RunEventSink;
  readonly #cancelled = new AbortController();
  /** Whether a call has ended because the run is cancelled. Until then the run may still finish. */
  #isStopped = false;
  #isFinished = false;
  #training: RunProgress['training'] = null;

  constructor(sink: RunEventSink) {
    this.#sink = sink;
  }

  /** Aborts when the run is cancelled, with the QianmoError that calls end with. */
  get cancelled(): AbortSignal {
    return this.#cancelled.signal;
  }

  get progress(): RunProgress {
    const stopping = this.#cancelled.signal.aborted ? 'stopping' : 'running';
    return { state: this.#isFinished ? 'finishing' : stopping, training: this.#training };
  }

  /** How the run ends, if it ends now. */
  get end(): Omit<RunEnd, 'start'> {
    const ended = this.#isFinished ? 'finished' : 'ended';
    return { kind: this.#isStopped ? 'cancelled' : ended, training: this.#training };
  }

  tell(training: RunProgress['training'], isOver: boolean): void {
    this.#training = training;
    this.#isFinished = isOver;
  }

  /** Returns whether the run begins to stop. */
  cancel(): boolean {
    if (this.#isFinished || this.#cancelled.signal.aborted) return false;
    this.#cancelled.abort(
      errorOf('cancelled', 'the run was cancelled through its queue', {
        cure: 'continue with --resume',
      }),
    );
    return true;
  }

  /** Called with the error that ends a call. */
  callFailed(error: unknown): void {
    if (!this.#cancelled.signal.aborted || error !== this.#cancelled.signal.reason) return;
    if (!this.#isStopped) this.#sink({ kind: 'run-cancelled' });
    this.#isStopped = true;
  }
}

interface Life {
  readonly holder: () => LeaseHolder;
  /** @throws RunFencedError if another coordinator has taken over the run. */
  readonly beat: () => Promise<void>;
}

function lifeOf(
  { nonce: start, clock, process = thisProcess() }: QueueDispatcherOptions,
  producer: JobProducer,
  course: RunCourse,
): Life {
  const sinceMs = clock.epochMs();
  const holder = (): LeaseHolder => {
    const { progress } = course;
    return { start, process, sinceMs, beatMs: clock.epochMs(), progress };
  };
  return {
    holder,
    beat: async () => {
      // The command that cancels waits for the sign that it was heard.
      if ((await producer.renewLease(holder())) !== null && course.cancel())
        await producer.renewLease(holder());
    },
  };
}

/** Takes the lease, removes the jobs of earlier ones, and returns the epoch. */
async function enter(
  producer: JobProducer,
  patience: QueuePatience,
  { queue, runId, clock, sink, signal, life }: QueueDispatcherOptions & { readonly life: Life },
): Promise<number> {
  const attempt = <Answer>(ask: () => Promise<Answer>): Promise<Answer> =>
    patience.attempt(ask, clock.monotonicMs() + OPEN_TIMEOUT_MS, signal);
  const epoch = await takeLease(
    (over) => attempt(() => producer.takeLease(runId, life.holder(), over)),
    runLeaseTerms({
      ...{ run: runId, where: queue.address, clock, sink, signal },
      ...{ beatIntervalMs: LEASE_RENEWAL_INTERVAL_MS, silenceMsMax: RUN_LEASE_MS },
    }),
  );
  const jobCount = await attempt(async () => {
    await life.beat();
    return producer.removeLeftovers(runId, epoch);
  });
  if (jobCount > 0) {
    const text = `removed ${counted(jobCount, 'waiting job')} of an earlier start`;
    sink(noticeEvent('leftover-jobs-removed', text));
  }
  return epoch;
}

/** Renews the lease at intervals, also between steps. */
async function keepAlive({ beat, clock }: DispatchContext, closed: AbortSignal): Promise<void> {
  for (;;) {
    await clock.sleep(LEASE_RENEWAL_INTERVAL_MS, closed);
    if (closed.aborted) return;
    // The next beat tries again, and a lost lease shows in the commands of a step.
    await beat().catch(() => undefined);
  }
}
