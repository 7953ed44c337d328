/**
 * Carries the jobs of one call of `Dispatcher.run`. It keeps a bounded window of jobs on the queue,
 * reads their records when woken and at intervals, and delivers a job again until it has a result. It
 * holds redeliveries back by its own clock, so that no other clock matters.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { ClosingConfig } from '../../shared/config/closing-config.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import { WAKE_ALL, type JobProducer } from '../../shared/queue/job-queue.js';
import type { JobResult } from '../../shared/queue/protocol.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import type { Admission } from './admission.js';
import { Attempts } from './attempts.js';
import type { BlobLeases } from './blob-leases.js';
import { StepClosing } from './closing.js';
import { jobOf, type Admitted, type JobOrder } from './dispatcher.js';
import { otherFingerprintReason, type FingerprintDemand } from './fingerprint-demand.js';
import {
  fateOf,
  type Fate,
  JobDelivery,
  LOST_WORKER,
  type AttemptFailure,
} from './job-delivery.js';
import type { LateResults } from './late-results.js';
import { StepBlobs } from './step-blobs.js';
import { Mailbox } from './mailbox.js';
import { interrupted, type QueuePatience } from './queue-patience.js';
import { readInTurn } from './read-in-turn.js';
import { noWorkerHealthy, requireFits, tooFewResults, type OpenJobs } from './step-failures.js';
import type { WorkerHealth } from './worker-health.js';

/**
 * The number of jobs on the queue at once. It bounds the memory that their row packs take in Redis.
 */
const OPEN_JOB_COUNT_MAX = 256;
/** The number of jobs that are sent before the inputs of others are encoded; it doubles. */
const FIRST_SENT_COUNT = 4;
/** The number of results that are fetched at once. It bounds the memory that outputs take. */
const READ_AHEAD_COUNT = 8;
const RECONCILE_INTERVAL_MS = 1_500;
/** Lifetimes clean up too, so cleaning up does not wait for a Redis that is away. */
const CLOSE_TIMEOUT_MS = 500;
const WORKERLESS_NOTICE_MS = 10_000;

/** The parts of a dispatcher that all its steps share. */
interface DispatchContext {
  /** The epoch of the run's lease. */
  readonly epoch: number;
  /**
   * Says that this coordinator lives. It writes, so a full server refuses it.
   *
   * @throws RunFencedError if another coordinator has taken over the run.
   */
  readonly beat: () => Promise<void>;
  readonly producer: JobProducer;
  readonly blobs: BlobStore;
  readonly leases: BlobLeases;
  readonly patience: QueuePatience;
  readonly health: WorkerHealth;
  readonly fingerprints: FingerprintDemand;
  readonly late: Pick<LateResults, 'expect'>;
  readonly limits: QueueConfig;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

/** The input of one step. */
interface StepCall<Value extends object> {
  readonly orders: readonly JobOrder[];
  readonly admission: Admission<Value>;
  readonly signal: AbortSignal;
  readonly attemptsMax: number;
  readonly closing: ClosingConfig;
  /** Sets the ids of this call apart from those of any other call or start. */
  readonly idSuffix: string;
}

/** A job as it was read from the queue. */
interface ReadJob {
  readonly delivery: JobDelivery;
  readonly fate: Fate;
  /** Null where the fate is no result, or the result's output is gone. */
  readonly output: Uint8Array | null;
}

export class DispatchStep<Value extends object> {
  readonly #context: DispatchContext;
  readonly #call: StepCall<Value>;
  readonly #startMs: number;
  readonly #closing: StepClosing;
  readonly #openByJobId = new Map<string, JobDelivery>();
  /** Open deliveries that are not on the queue yet, with the time when they are due. */
  readonly #heldBack = new Map<JobDelivery, number>();
  readonly #attempts: Attempts;
  readonly #stepBlobs: StepBlobs;
  readonly #mailbox: Mailbox;
  readonly #unsubscribe: () => void;
  /** Aborts with the caller's signal, and when the dispatcher closes. */
  readonly #stop = new AbortController();
  #sentCount = 0;
  #reconcileAtMs = 0;
  #saidWorkerless = false;

  constructor(context: DispatchContext, call: StepCall<Value>) {
    const { clock, producer, limits, health } = context;
    const { attemptsMax } = call;
    this.#context = context;
    this.#call = call;
    const startMs = clock.monotonicMs();
    this.#startMs = startMs;
    const period = { startMs, timeoutMs: limits.outerStepTimeoutMs };
    this.#closing = new StepClosing(call.closing, { jobCount: call.orders.length, ...period });
    this.#attempts = new Attempts({
      ...{ health, attemptsMax },
      connectedWorkers: () => this.#workerNames(),
    });
    this.#stepBlobs = new StepBlobs(context, (action) => this.#patiently(action));
    this.#mailbox = new Mailbox(clock);
    this.#unsubscribe = producer.subscribe((jobId) => this.#mailbox.put(jobId));
    if (call.signal.aborted) this.stop();
    call.signal.addEventListener('abort', this.stop, { once: true });
  }

  /** Makes `results` throw `interrupted`. */
  readonly stop = (): void => this.#stop.abort();

  async *results(): AsyncGenerator<Admitted<Value>> {
    const { clock, late } = this.#context;
    this.#reconcileAtMs = clock.monotonicMs() + RECONCILE_INTERVAL_MS;
    for (;;) {
      const { admittedCount, openCount } = this.#call.admission;
      const nowMs = clock.monotonicMs();
      const closing = this.#closing.look(admittedCount, openCount, nowMs);
      if (closing.kind === 'close') break;
      if (closing.kind === 'too-few') {
        this.#sendOpenAgain(nowMs);
        continue;
      }
      await this.#fillWindow();
      await this.#quarantineWorkers();
      const dueMs = await this.#deliverDue();
      const waitMs = Math.min(this.#reconcileAtMs, closing.untilMs, dueMs) - clock.monotonicMs();
      const woken = await this.#mailbox.take(Math.max(0, waitMs), this.#stop.signal);
      if (this.#stop.signal.aborted) throw interrupted();
      const jobIds = await this.#jobsToLookAt(woken);
      const read = (jobId: string): Promise<ReadJob | null> => this.#read(jobId);
      for await (const job of readInTurn(jobIds, read, READ_AHEAD_COUNT)) {
        const admitted = job === null ? null : await this.#judge(job);
        if (admitted !== null) yield admitted;
      }
    }
    late.expect(this.#openByJobId.values());
  }

  /** Too few results came in time: every job without one has one more delivery, and one more period. */
  #sendOpenAgain(nowMs: number): void {
    const { limits, health } = this.#context;
    if (!this.#closing.takeSecondChance(nowMs))
      throw tooFewResults(this.#openJobs(), this.#closing, limits.outerStepTimeoutMs, health);
    const sent = [...this.#openByJobId.values()].filter((one) => !this.#heldBack.has(one));
    for (const delivery of sent) this.#deliverAgain(delivery, 'late', 'too few results in time');
  }

  /** Leaves jobs and blobs as they are: another coordinator, which has equal inputs, may use the blobs. */
  abandon(): void {
    this.#unsubscribe();
    this.#call.signal.removeEventListener('abort', this.stop);
  }

  /** Ends the call, whether or not every job has a result. */
  async close(): Promise<void> {
    const { clock, producer, patience, blobs } = this.#context;
    this.abandon();
    const open = [...this.#openByJobId.entries()];
    this.#openByJobId.clear();
    const unused = open.flatMap(([, { order }]) => this.#stepBlobs.released(order));
    const tidy = async (): Promise<void> => {
      await producer.remove(open.map(([jobId]) => jobId));
      await Promise.all([...unused.map((ref) => blobs.delete(ref)), this.#stepBlobs.settled()]);
    };
    try {
      await patience.attemptQuietly(tidy, clock.monotonicMs() + CLOSE_TIMEOUT_MS);
    } catch {
      // Blobs left behind have a lifetime, and the next start of the run removes the jobs.
    }
  }

  /**
   * Sends jobs until the window is full. The first ones leave early, so that workers compute while the
   * inputs of the others are encoded.
   */
  async #fillWindow(): Promise<void> {
    for (let countMax = FIRST_SENT_COUNT; ; countMax *= 2) {
      const fresh = this.#nextDeliveries(countMax);
      if (fresh.length === 0) return;
      for (const delivery of fresh) this.#openByJobId.set(delivery.jobId, delivery);
      await this.#stepBlobs.put(fresh.map(({ order }) => order));
      await this.#send(fresh);
    }
  }

  #nextDeliveries(countMax: number): JobDelivery[] {
    const { orders, idSuffix } = this.#call;
    const { epoch, leases, fingerprints } = this.#context;
    const freeCount = Math.max(0, OPEN_JOB_COUNT_MAX - this.#openByJobId.size);
    const end = this.#sentCount + Math.min(countMax, freeCount);
    const fresh = orders.slice(this.#sentCount, end).map((order) => {
      const stamp = { epoch, fingerprint: fingerprints.of(order.job) };
      const job = jobOf(order, (bytes) => leases.refOf(bytes), stamp);
      const delivery = new JobDelivery(order, job, idSuffix);
      requireFits(delivery);
      return delivery;
    });
    this.#sentCount += fresh.length;
    return fresh;
  }

  async #jobsToLookAt(woken: ReadonlySet<string>): Promise<string[]> {
    const { beat } = this.#context;
    const nowMs = this.#context.clock.monotonicMs();
    const all = woken.has(WAKE_ALL) || nowMs >= this.#reconcileAtMs;
    if (!all) return [...woken].filter((jobId) => this.#openByJobId.has(jobId));
    this.#reconcileAtMs = nowMs + RECONCILE_INTERVAL_MS;
    await this.#patiently(beat);
    await this.#sayWhenWorkerless(nowMs);
    await this.#giveUpWithoutHealthyWorker();
    const isSent = ([, delivery]: [string, JobDelivery]): boolean => !this.#heldBack.has(delivery);
    return [...this.#openByJobId].filter(isSent).map(([jobId]) => jobId);
  }

  /** Reads the state of an open job, and its output where it has one. */
  async #read(jobId: string): Promise<ReadJob | null> {
    const delivery = this.#openByJobId.get(jobId);
    if (delivery === undefined) return null;
    const record = await this.#patiently(() => this.#context.producer.read(jobId));
    const fate = fateOf(record, delivery.job);
    const output = fate.kind === 'result' ? await this.#stepBlobs.output(fate.result.output) : null;
    return { delivery, fate, output };
  }

  /** Returns the job's result when it now has one that is admitted. */
  async #judge({ delivery, fate, output }: ReadJob): Promise<Admitted<Value> | null> {
    const { health } = this.#context;
    switch (fate.kind) {
      case 'open':
        return null;
      case 'result':
        return this.#judgeResult(delivery, fate.result, output);
      case 'hopeless':
        throw delivery.hopeless(fate.reason);
      case 'lost':
        await this.#stepBlobs.restore(delivery.order);
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
      case 'forged':
        this.#call.admission.refuse({ ...delivery.job, worker: fate.worker }, 'forged');
        await this.#attemptFailed(delivery, 'rejected', { ...fate, rejection: 'forged' });
        return null;
      case 'worker-lost':
        await this.#workerLost(delivery, fate.reason);
        return null;
    }
  }

  async #judgeResult(
    delivery: JobDelivery,
    result: JobResult,
    output: Uint8Array | null,
  ): Promise<Admitted<Value> | null> {
    if (output === null) {
      this.#deliverAgain(delivery, 'output-missing', 'its output blob is not there');
      return null;
    }
    const judged = this.#call.admission.judge({ result, output });
    // An output can equal the input of another job, which is still needed.
    if (!this.#context.leases.isLeased(result.output)) this.#stepBlobs.delete([result.output]);
    if (judged === 'other_fingerprint') {
      this.#deliverToOthers(delivery, result);
      return null;
    }
    if (typeof judged === 'string') {
      const reason = `its result was refused: ${judged}`;
      const failure = { worker: result.worker, reason, rejection: judged };
      await this.#attemptFailed(delivery, 'rejected', failure);
      return null;
    }
    this.#attempts.succeeded(delivery, result.worker);
    this.#openByJobId.delete(delivery.jobId);
    this.#stepBlobs.delete(this.#stepBlobs.released(delivery.order));
    return judged;
  }

  /** The job was computed before the run had a fingerprint, by a worker that has another one. */
  #deliverToOthers(delivery: JobDelivery, { worker, fingerprint }: JobResult): void {
    const { fingerprints, health } = this.#context;
    health.refused(worker, otherFingerprintReason(fingerprints.of(delivery.job), fingerprint));
    this.#deliverNext(delivery);
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
    delivery.deliverAgain(this.#context.fingerprints.of(delivery.job));
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
    return this.#context.patience.attempt(action, this.#closing.deadlineMs, this.#stop.signal);
  }

  #openJobs(): OpenJobs {
    return {
      orderCount: this.#call.orders.length,
      openCount: this.#openByJobId.size,
      first: this.#openByJobId.values().next().value,
    };
  }
}
