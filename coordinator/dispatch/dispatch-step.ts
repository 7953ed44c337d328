/**
 * Carries the jobs of one call of `Dispatcher.run`. It keeps a bounded window of jobs on the queue,
 * reads their records when woken and at intervals, and delivers a job again until it has a result. It
 * holds redeliveries back by its own clock, so that no other clock matters.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { WAKE_ALL, type JobProducer } from '../../shared/queue/job-queue.js';
import type { JobResult } from '../../shared/queue/protocol.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';
import { BlobMissingError, type BlobRef, type BlobStore } from '../../shared/storage/blob-store.js';
import type { Admission } from './admission.js';
import { Attempts } from './attempts.js';
import type { BlobLeases } from './blob-leases.js';
import { closingOf, type Closing } from './closing.js';
import { jobOf, type Admitted, type JobOrder } from './dispatcher.js';
import { fateOf, JobDelivery, LOST_WORKER, type AttemptFailure } from './job-delivery.js';
import { Mailbox } from './mailbox.js';
import { interrupted, type QueuePatience } from './queue-patience.js';
import { noWorkerHealthy, requireFits, stepTimedOut, type OpenJobs } from './step-failures.js';
import type { WorkerHealth } from './worker-health.js';

/**
 * The number of jobs on the queue at once. It bounds the memory that their row packs take in Redis.
 */
const OPEN_JOB_COUNT_MAX = 256;
const RECONCILE_INTERVAL_MS = 1_500;
/** Lifetimes clean up too, so cleaning up does not wait for a Redis that is away. */
const CLOSE_TIMEOUT_MS = 500;
const WORKERLESS_NOTICE_MS = 10_000;

/** The parts of a dispatcher that all its steps share. */
export interface DispatchContext {
  /** The nonce of this start of the coordinator, which the ids of its jobs hold. */
  readonly start: string;
  readonly producer: JobProducer;
  readonly blobs: BlobStore;
  readonly leases: BlobLeases;
  readonly patience: QueuePatience;
  readonly health: WorkerHealth;
  readonly limits: QueueConfig;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

/** The input of one step. */
export interface StepCall<Value extends object> {
  readonly orders: readonly JobOrder[];
  readonly admission: Admission<Value>;
  readonly signal: AbortSignal;
  /** Sets the ids of this call apart from those of any other call or start. */
  readonly idSuffix: string;
}

export class DispatchStep<Value extends object> {
  readonly #context: DispatchContext;
  readonly #call: StepCall<Value>;
  readonly #startMs: number;
  readonly #deadlineMs: number;
  readonly #openByJobId = new Map<string, JobDelivery>();
  /** Open deliveries that are not on the queue yet, with the time when they are due. */
  readonly #heldBack = new Map<JobDelivery, number>();
  readonly #attempts: Attempts;
  readonly #mailbox: Mailbox;
  readonly #unsubscribe: () => void;
  /** Aborts with the caller's signal, and when the dispatcher closes. */
  readonly #stop = new AbortController();
  #sentCount = 0;
  #reconcileAtMs = 0;
  #saidWorkerless = false;

  constructor(context: DispatchContext, call: StepCall<Value>) {
    const { clock, producer, limits, health } = context;
    this.#context = context;
    this.#call = call;
    this.#startMs = clock.monotonicMs();
    this.#deadlineMs = this.#startMs + limits.outerStepTimeoutMs;
    this.#attempts = new Attempts({
      ...{ health, attemptsMax: limits.jobAttemptsMax },
      connectedWorkers: () => this.#workerNames(),
    });
    this.#mailbox = new Mailbox(clock);
    this.#unsubscribe = producer.subscribe((jobId) => this.#mailbox.put(jobId));
    if (call.signal.aborted) this.stop();
    call.signal.addEventListener('abort', this.stop, { once: true });
  }

  /** Makes `results` throw `interrupted`. */
  readonly stop = (): void => this.#stop.abort();

  async *results(): AsyncGenerator<Admitted<Value>> {
    const { clock, limits, health } = this.#context;
    this.#reconcileAtMs = clock.monotonicMs() + RECONCILE_INTERVAL_MS;
    for (;;) {
      const closing = this.#closing();
      if (closing.kind === 'close') return;
      if (closing.kind === 'timed-out')
        throw stepTimedOut(this.#openJobs(), limits.outerStepTimeoutMs, health);
      await this.#fillWindow();
      await this.#quarantineWorkers();
      const dueMs = await this.#deliverDue();
      const waitMs = Math.min(this.#reconcileAtMs, closing.untilMs, dueMs) - clock.monotonicMs();
      const woken = await this.#mailbox.take(Math.max(0, waitMs), this.#stop.signal);
      if (this.#stop.signal.aborted) throw interrupted();
      for (const jobId of await this.#jobsToLookAt(woken)) {
        const admitted = await this.#lookAt(jobId);
        if (admitted !== null) yield admitted;
      }
    }
  }

  #closing(): Closing {
    const { admittedCount, openCount } = this.#call.admission;
    const nowMs = this.#context.clock.monotonicMs();
    return closingOf({ admittedCount, openCount, nowMs, deadlineMs: this.#deadlineMs });
  }

  /** Ends the call, whether or not every job has a result. */
  async close(): Promise<void> {
    const { clock, producer, patience, blobs } = this.#context;
    this.#unsubscribe();
    this.#call.signal.removeEventListener('abort', this.stop);
    const open = [...this.#openByJobId.entries()];
    this.#openByJobId.clear();
    const unused = open.flatMap(([, { order }]) => this.#released(order));
    const tidy = async (): Promise<void> => {
      await producer.remove(open.map(([jobId]) => jobId));
      await Promise.all(unused.map((ref) => blobs.delete(ref)));
    };
    try {
      await patience.attemptQuietly(tidy, clock.monotonicMs() + CLOSE_TIMEOUT_MS);
    } catch {
      // Blobs left behind have a lifetime, and the next start of the run removes the jobs.
    }
  }

  async #fillWindow(): Promise<void> {
    const { blobs, leases } = this.#context;
    const { orders, idSuffix } = this.#call;
    const unsent: Uint8Array[] = [];
    const fresh: JobDelivery[] = [];
    while (this.#sentCount < orders.length && this.#openByJobId.size < OPEN_JOB_COUNT_MAX) {
      const order = orders[this.#sentCount];
      if (order === undefined) break;
      const job = jobOf(order, (bytes) => leases.refOf(bytes));
      const delivery = new JobDelivery(order, job, idSuffix);
      requireFits(delivery);
      unsent.push(...ownInputsOf(order).filter((bytes) => leases.lease(bytes)));
      if (order.frozen !== null) {
        const held = leases.hold(order.frozen);
        if (held.isFirst) unsent.push(order.frozen);
        await this.#delete(held.unused);
      }
      this.#sentCount += 1;
      this.#openByJobId.set(delivery.jobId, delivery);
      fresh.push(delivery);
    }
    if (fresh.length === 0) return;
    await Promise.all(
      unsent.map((bytes) => this.#patiently(() => blobs.put(bytes, leases.refOf(bytes)))),
    );
    await this.#send(fresh);
  }

  async #jobsToLookAt(woken: ReadonlySet<string>): Promise<string[]> {
    const { producer, start } = this.#context;
    const nowMs = this.#context.clock.monotonicMs();
    const all = woken.has(WAKE_ALL) || nowMs >= this.#reconcileAtMs;
    if (!all) return [...woken].filter((jobId) => this.#openByJobId.has(jobId));
    this.#reconcileAtMs = nowMs + RECONCILE_INTERVAL_MS;
    await this.#patiently(() => producer.beat(start));
    await this.#sayWhenWorkerless(nowMs);
    await this.#giveUpWithoutHealthyWorker();
    const isSent = ([, delivery]: [string, JobDelivery]): boolean => !this.#heldBack.has(delivery);
    return [...this.#openByJobId].filter(isSent).map(([jobId]) => jobId);
  }

  /** Returns the job's result when it now has one that is admitted. */
  async #lookAt(jobId: string): Promise<Admitted<Value> | null> {
    const { producer, health } = this.#context;
    const delivery = this.#openByJobId.get(jobId);
    if (delivery === undefined) return null;
    const fate = fateOf(await this.#patiently(() => producer.read(jobId)), delivery.job);
    switch (fate.kind) {
      case 'open':
        return null;
      case 'result':
        return this.#judge(delivery, fate.result);
      case 'hopeless':
        throw delivery.hopeless(fate.reason);
      case 'lost':
        await this.#restoreInputs(delivery.order);
        this.#deliverAgain(delivery, 'lost', fate.reason);
        return null;
      case 'refused':
        health.refused(fate.worker, fate.reason);
        this.#deliverNext(delivery);
        return null;
      case 'sick':
        health.sick(fate.worker, fate.reason);
        this.#deliverNext(delivery);
        return null;
      case 'failed':
        await this.#attemptFailed(delivery, 'failed', fate);
        return null;
      case 'worker-lost':
        await this.#workerLost(delivery, fate.reason);
        return null;
    }
  }

  async #judge(delivery: JobDelivery, result: JobResult): Promise<Admitted<Value> | null> {
    const { blobs, leases } = this.#context;
    const output = await this.#outputOf(result);
    if (output === null) {
      this.#deliverAgain(delivery, 'output-missing', 'its output blob is not there');
      return null;
    }
    const judged = this.#call.admission.judge({ result, output });
    // An output can equal the input of another job, which is still needed.
    if (!leases.isLeased(result.output)) await this.#patiently(() => blobs.delete(result.output));
    if (typeof judged === 'string') {
      const reason = `its result was refused: ${judged}`;
      const failure = { worker: result.worker, reason, rejection: judged };
      await this.#attemptFailed(delivery, 'rejected', failure);
      return null;
    }
    this.#attempts.succeeded(delivery, result.worker);
    this.#openByJobId.delete(delivery.jobId);
    await this.#delete(this.#released(delivery.order));
    return judged;
  }

  /** Releases the inputs of a job. Returns those without a user. */
  #released(order: JobOrder): BlobRef[] {
    return ownInputsOf(order).flatMap((bytes) => this.#context.leases.release(bytes));
  }

  async #delete(refs: readonly BlobRef[]): Promise<void> {
    const { blobs } = this.#context;
    await Promise.all(refs.map((ref) => this.#patiently(() => blobs.delete(ref))));
  }

  async #restoreInputs(order: JobOrder): Promise<void> {
    const { blobs, leases } = this.#context;
    const inputs = [...ownInputsOf(order), ...(order.frozen === null ? [] : [order.frozen])];
    for (const bytes of inputs) {
      const ref = leases.refOf(bytes);
      await this.#patiently(async () => {
        if (!(await blobs.has(ref))) await blobs.put(bytes, ref);
      });
    }
  }

  /** Returns null for a missing blob, and no bytes for a blob that differs from its reference. */
  async #outputOf(result: JobResult): Promise<Uint8Array | null> {
    try {
      return await this.#patiently(() => this.#context.blobs.get(result.output));
    } catch (error) {
      if (error instanceof BlobMissingError) return null;
      if (error instanceof QianmoError && error.kind === 'data') return new Uint8Array(0);
      throw error;
    }
  }

  /** Workers cannot keep their locks while Redis is away, so a lost lock then tells nothing. */
  async #workerLost(delivery: JobDelivery, reason: string): Promise<void> {
    const wasAway = this.#context.patience.lastAwayMs >= delivery.sentMs;
    if (wasAway) this.#deliverAgain(delivery, 'lost', `${reason}, and Redis was away`);
    else await this.#attemptFailed(delivery, 'failed', { worker: LOST_WORKER, reason });
  }

  async #attemptFailed(
    delivery: JobDelivery,
    cause: RunEventOf<'job-retried'>['cause'],
    failure: AttemptFailure,
  ): Promise<void> {
    await this.#attempts.failed(delivery, failure);
    this.#deliverAgain(delivery, cause, failure.reason);
  }

  #deliverAgain(
    delivery: JobDelivery,
    cause: RunEventOf<'job-retried'>['cause'],
    reason: string,
  ): void {
    const { outerStep, jobIndex } = delivery.job;
    this.#context.sink({ kind: 'job-retried', outerStep, jobIndex, cause, reason });
    this.#deliverNext(delivery);
  }

  #deliverNext(delivery: JobDelivery): void {
    this.#openByJobId.delete(delivery.jobId);
    delivery.deliverAgain();
    this.#openByJobId.set(delivery.jobId, delivery);
    this.#heldBack.set(delivery, this.#context.clock.monotonicMs() + delivery.delayMs);
  }

  /** Sends the redeliveries that are due and returns when the next one is. */
  async #deliverDue(): Promise<number> {
    const nowMs = this.#context.clock.monotonicMs();
    const due = [...this.#heldBack].filter(([, dueMs]) => dueMs <= nowMs);
    for (const [delivery] of due) this.#heldBack.delete(delivery);
    const deliveries = due.map(([delivery]) => delivery);
    if (deliveries.length > 0) await this.#send(deliveries);
    return Math.min(Number.POSITIVE_INFINITY, ...this.#heldBack.values());
  }

  async #send(deliveries: readonly JobDelivery[]): Promise<void> {
    const { clock, producer } = this.#context;
    await this.#patiently(() => producer.add(deliveries));
    for (const delivery of deliveries) delivery.sentMs = clock.monotonicMs();
  }

  async #quarantineWorkers(): Promise<void> {
    const { health, producer } = this.#context;
    for (const [worker, durationMs] of health.takeQuarantines())
      await this.#patiently(() => producer.quarantine(worker, durationMs));
  }

  async #sayWhenWorkerless(nowMs: number): Promise<void> {
    if (this.#saidWorkerless || nowMs - this.#startMs < WORKERLESS_NOTICE_MS) return;
    this.#saidWorkerless = true;
    if ((await this.#workerNames()).length > 0) return;
    this.#context.sink({ kind: 'workers-missing', openJobCount: this.#openByJobId.size });
  }

  async #giveUpWithoutHealthyWorker(): Promise<void> {
    const { health } = this.#context;
    if (health.isUnclouded || health.judge(await this.#workerNames()) === 'wait') return;
    throw noWorkerHealthy(this.#openJobs(), health);
  }

  async #workerNames(): Promise<string[]> {
    const workers = await this.#patiently(() => this.#context.producer.workers());
    return workers.map(({ name }) => name);
  }

  #patiently<T>(action: () => Promise<T>): Promise<T> {
    return this.#context.patience.attempt(action, this.#deadlineMs, this.#stop.signal);
  }

  #openJobs(): OpenJobs {
    return {
      orderCount: this.#call.orders.length,
      openCount: this.#openByJobId.size,
      first: this.#openByJobId.values().next().value,
    };
  }
}

/** The inputs that only jobs of this outer step use. */
function ownInputsOf({ dense, rowPack }: JobOrder): Uint8Array[] {
  return rowPack === null ? [dense] : [dense, rowPack];
}
