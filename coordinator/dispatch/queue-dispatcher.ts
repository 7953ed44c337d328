/**
 * Carries jobs over the queue: puts their blobs, enqueues them, and yields results as they come.
 * The queue's record is the truth about a job and its event only a wake-up: every open job is read
 * again at intervals, so a lost event, a restarted or emptied server and a dead worker all end in
 * one more delivery. `job-delivery.ts` follows a single job; `shared/queue/job-queue.ts` is the
 * queue.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import { UnreadableOrdersError } from '../../shared/queue/run-orders.js';
import { noticeEvent, type RunEventSink } from '../../shared/events/run-events.js';
import type { JobProducer, JobQueue } from '../../shared/queue/job-queue.js';
import { startSuffixOf, type LargeBlobs } from '../../shared/queue/protocol.js';
import { RUN_LEASE_MS, LEASE_RENEWAL_INTERVAL_MS } from '../../shared/queue/timing.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import { thisProcess, type ProcessIdentity } from '../../shared/storage/process-identity.js';
import { RunFencedError, takeLease, type LeaseHolder } from '../../shared/storage/lease.js';
import { OrdersHeard } from './run-control.js';
import { Admission, admissionRecord, MachineChoice, type AdmissionRecord } from './admission.js';
import { DispatchStep, type DispatchContext } from './dispatch-step.js';
import type { Admitted, CallTerms, Dispatcher, JobOrder, ReadResult } from './dispatcher.js';
import { createQueuePatience, type QueuePatience } from './queue-patience.js';
import { BlobLeases } from './step-blobs.js';
import { runLeaseTerms } from './run-lease.js';
import { WorkerHealth, latestWorkerCount, nobodyCounted, WantedWorkers } from './worker-health.js';
import { counted } from '../../shared/names/counted.js';

interface QueueDispatcherOptions {
  readonly queue: JobQueue;
  readonly limits: QueueConfig;
  /** The place of large blobs, for a queue that has them there; beside the queue if absent. */
  readonly largeBlobs?: LargeBlobs | undefined;
  readonly runId: string;
  /** False for work that never trains, as an evaluation; true by default. */
  readonly mayTrain?: boolean | undefined;
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

const OPEN_TIMEOUT_MS = 30_000;
const RELEASE_TIMEOUT_MS = 500;
/** How long the end of a run waits for orders that may prolong it. */
const REFRESH_TIMEOUT_MS = 2_000;

/**
 * Connects, checks the server, takes the lease of the run, and removes what a dead coordinator of it left
 * waiting.
 *
 * @throws QianmoError `environment` when the server is down, refuses, or may evict keys, `usage` when
 *   another coordinator works on the run.
 */
export async function createQueueDispatcher(options: QueueDispatcherOptions): Promise<Dispatcher> {
  const { queue, limits, largeBlobs: large, nonce, clock, mayTrain, runId } = options;
  const record = admissionRecord(options.sink, clock);
  const { sink, fingerprints } = record;
  const producer = await queue.openProducer(nonce);
  const { blobLifetimeMs: lifetimeMs, blobByteCountMax, refusalWaitMs } = limits;
  const blobTerms = { lifetimeMs, blobByteCountMax, ...(large === undefined ? {} : { large }) };
  const blobs = options.blobs ?? producer.blobs(blobTerms);
  const patience = createQueuePatience({ where: queue.address, clock, sink, refusalWaitMs });
  const quietly = async (ask: () => Promise<unknown>, timeoutMs: number): Promise<void> => {
    await patience.attemptQuietly(ask, clock.monotonicMs() + timeoutMs).catch(() => undefined);
  };
  const heard = new OrdersHeard({ clock, sink, mayTrain });
  const life = lifeOf(options, producer, heard);
  const epoch = await enter(producer, patience, { ...options, life }).catch(
    async (error: unknown) => {
      // Another start need not wait until the lease ends, and is to heed what this one has not.
      await quietly(() => producer.releaseLease({ keepsOrders: true }), RELEASE_TIMEOUT_MS);
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
    counted: nobodyCounted(),
  };
  const closed = new AbortController();
  void keepAlive(context, heard, closed.signal);
  const steps = new OpenSteps(context, { record, heard, nonce });
  return {
    rejections: record.rejections,
    executorCount: latestWorkerCount(context),
    control: {
      runId,
      get orders() {
        return heard.orders;
      },
      tell: (training) => heard.tell(training),
      // A lost lease is reported by the next write.
      refresh: () => quietly(life.beat, REFRESH_TIMEOUT_MS),
    },
    run: (orders, read, signal, terms = {}) => steps.run({ orders, read, signal, terms }),
    close: async () => {
      closed.abort();
      steps.close();
      const unused = steps.isFenced ? [] : leases.releaseHeld();
      // Their lifetime removes them otherwise.
      await quietly(async () => {
        const released = producer.releaseLease({ end: heard.end });
        await Promise.all([...unused.map((ref) => blobs.delete(ref)), released]);
      }, RELEASE_TIMEOUT_MS);
      await producer.close();
    },
  };
}

interface StepDemand<Value extends object> {
  readonly orders: readonly JobOrder[];
  readonly read: ReadResult<Value>;
  readonly signal: AbortSignal;
  readonly terms: CallTerms;
}

interface StepOrigin {
  readonly record: AdmissionRecord;
  readonly heard: OrdersHeard;
  readonly nonce: string;
}

class OpenSteps {
  readonly #context: DispatchContext;
  readonly #origin: StepOrigin;
  readonly #wanted: WantedWorkers;
  readonly #open = new Set<Pick<DispatchStep<object>, 'stop'>>();
  #openedCount = 0;
  isFenced = false;

  constructor(context: DispatchContext, origin: StepOrigin) {
    this.#context = context;
    this.#origin = origin;
    this.#wanted = new WantedWorkers(context.sink);
    const { cancelled } = origin.heard;
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
    const { orders, read, signal, terms } = demand;
    const { record, heard, nonce } = this.#origin;
    if (heard.orders.isPaused) this.#wanted.want([]);
    await heard.allowed(signal, terms.onHeldBack);
    this.#wanted.want(orders);
    if (orders[0] !== undefined) await this.#context.machines.make(orders[0].job, signal);
    this.#openedCount += 1;
    const { attemptsMax = this.#context.limits.jobAttemptsMax } = terms;
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
      this.#origin.heard.callFailed(error);
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
      else await step.close();
    }
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
  heard: OrdersHeard,
): Life {
  const sinceMs = clock.epochMs();
  const holder = (): LeaseHolder => {
    const { progress } = heard;
    return { start, process, sinceMs, beatMs: clock.epochMs(), progress };
  };
  /** Returns whether there were other orders. */
  const renew = async (): Promise<boolean> => {
    try {
      return heard.hear(await producer.renewLease(holder()));
    } catch (error) {
      if (!(error instanceof UnreadableOrdersError)) throw error;
      heard.cannotRead(error);
      return false;
    }
  };
  return {
    holder,
    beat: async () => {
      // Those who gave the orders wait for the sign that they were heard.
      if (await renew()) await renew();
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

/**
 * Renews the lease at intervals, also between steps. A failure shows in the commands of a step; in a pause there are
 * none, so a lost lease is reported.
 */
async function keepAlive(
  { beat, clock }: DispatchContext,
  heard: OrdersHeard,
  closed: AbortSignal,
): Promise<void> {
  for (;;) {
    await clock.sleep(LEASE_RENEWAL_INTERVAL_MS, closed);
    if (closed.aborted) return;
    try {
      await beat();
    } catch (error) {
      // The next beat tries again.
      if (error instanceof RunFencedError) heard.fence(error);
    }
  }
}
