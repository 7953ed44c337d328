/**
 * Carries the jobs of one call of `Dispatcher.run`. It keeps a bounded window of jobs on the queue,
 * reads their records when woken and at intervals, and delivers a job again until it has a result. It
 * holds redeliveries back by its own clock, so that no other clock matters.
 */

import { type JobProducer, type JobRecord, WAKE_ALL } from '../../shared/queue/job-queue.js';
import {
  type Job,
  type JobResult,
  type LargeBlobs,
  leafCountOf,
} from '../../shared/queue/protocol.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';
import type { BlobRef, BlobStore } from '../../shared/storage/blob-store.js';
import { Attempts, type WorkerHealth } from './worker-health.js';
import { BackupCopies, type JobDurations } from './backup-copies.js';
import {
  assertFits,
  type OpenJobs,
  StepClosing,
  tooFewResults,
  undecidedDispute,
} from './closing.js';
import { type Admitted, type DeliveryTerms, jobOf, type JobOrder } from './dispatcher.js';
import { type FingerprintDemand, otherFingerprintReason } from '../trust/fingerprint-demand.js';
import { type AttemptFailure, JobDelivery, LOST_WORKER } from './job-delivery.js';
import { type BlobLeases, StepBlobs } from './step-blobs.js';
import { interruptedBy, type Patiently, type QueuePatience } from './queue-patience.js';
import { heldAmong, readJob, type ReadJob } from './read-job.js';
import { SecondOpinions } from './second-opinions.js';
import { StepWorkers, type WorkerCount } from './step-workers.js';
import type { Clock } from '../../shared/base/clock.js';
import type { ClosingConfig } from '../../shared/config/closing-config.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import type { MachineChoice } from '../trust/machine-choice.js';
import type { Admission } from './admission.js';
import type { LateResults } from './late-results.js';

const RECONCILE_INTERVAL_MS = 1_500;
/** Lifetimes clean up too, so cleaning up does not wait for a Redis that is away. */
const CLOSE_TIMEOUT_MS = 500;

export class DispatchStep<Value extends object> {
  readonly #context: DispatchContext;
  readonly #call: StepCall<Value>;
  readonly #closing: StepClosing;
  readonly #openByJobId = new Map<string, JobDelivery>();
  /** Open deliveries that are not on the queue yet, with the time when they are due. */
  readonly #heldBack = new Map<JobDelivery, number>();
  readonly #attempts: Attempts;
  readonly #stepBlobs: StepBlobs;
  readonly #reading: Parameters<typeof readJob>[0];
  readonly #opinions: SecondOpinions;
  readonly #copies: BackupCopies;
  readonly #workers: StepWorkers;
  readonly #first: FirstDeliveries;
  /** Wake-ups by job, with the record where the wake-up has it. */
  readonly #mailbox: Mailbox<JobRecord | undefined>;
  readonly #unsubscribe: () => void;
  /** Aborts with the caller's signal, and when the dispatcher closes. */
  readonly #stop = new AbortController();
  /** Outputs that were read, and that another delivery may still name. They are deleted when the call ends. */
  readonly #sharedOutputs: BlobRef[] = [];
  #sendingAhead = Promise.resolve();
  #reconcileAtMs = 0;

  constructor(context: DispatchContext, call: StepCall<Value>) {
    const { clock, producer, limits, health } = context;
    this.#context = context;
    this.#call = call;
    const period = { startMs: clock.monotonicMs(), timeoutMs: limits.outerStepTimeoutMs };
    const leafCount = call.orders.reduce((sum, { job }) => sum + leafCountOf(job), 0);
    this.#closing = new StepClosing(call.closing, { leafCount, ...period });
    this.#workers = new StepWorkers(context, this.#patiently);
    const connectedWorkers = (): Promise<string[]> => this.#workers.names();
    this.#attempts = new Attempts({ health, attemptsMax: call.attemptsMax, connectedWorkers });
    this.#opinions = new SecondOpinions({ ...context, connectedWorkers });
    this.#copies = new BackupCopies(context, this.#openByJobId);
    this.#stepBlobs = new StepBlobs(context, this.#patiently);
    const [openByJobId, stepBlobs, patiently] = [
      this.#openByJobId,
      this.#stepBlobs,
      this.#patiently,
    ];
    this.#reading = { producer, stepBlobs, patiently, openByJobId };
    const { workers, opinions } = { workers: this.#workers, opinions: this.#opinions };
    const sending = { call, workers, stepBlobs, opinions, openByJobId, patiently };
    this.#first = new FirstDeliveries(context, sending);
    this.#mailbox = new Mailbox(clock);
    this.#unsubscribe = producer.subscribe((jobId, record) => {
      // A step that is not read yet would pile up those of others.
      if (jobId === WAKE_ALL || openByJobId.has(jobId)) this.#mailbox.put(jobId, record);
    });
    if (call.signal.aborted) this.stop();
    else call.signal.addEventListener('abort', this.#interrupt, { once: true });
  }

  readonly #patiently: Patiently = (action) =>
    this.#context.patience.attempt(action, this.#closing.deadlineMs, this.#stop.signal);

  /** Makes `results` throw the reason if it is a cancellation, otherwise `interrupted`. */
  stop(reason?: unknown): void {
    this.#stop.abort(reason);
  }

  readonly #interrupt = (): void => this.stop();

  /** Begins to send jobs before anyone reads results. A failure is thrown by `results`. */
  sendAhead(): void {
    this.#sendingAhead = this.#first.fillWindow();
    this.#sendingAhead.catch(() => undefined);
  }

  async *results(): AsyncGenerator<Admitted<Value>> {
    const { clock, late } = this.#context;
    this.#closing.begin(clock.monotonicMs());
    await this.#sendingAhead;
    this.#reconcileAtMs = clock.monotonicMs() + RECONCILE_INTERVAL_MS;
    for (;;) {
      const { admittedLeafCount } = this.#call.admission;
      const openCount = this.#call.admission.openCount + this.#opinions.openCount;
      const nowMs = clock.monotonicMs();
      const isDisputed = this.#opinions.disputes.size > 0;
      const closing = this.#closing.look(admittedLeafCount, openCount, nowMs, isDisputed);
      if (closing.kind === 'close') break;
      if (closing.kind === 'too-few') {
        await this.#sendOpenAgain(nowMs);
        continue;
      }
      await this.#first.fillWindow();
      await this.#workers.quarantine();
      await this.#sendCopies();
      const dueMs = await this.#deliverDue();
      const waitMs = Math.min(this.#reconcileAtMs, closing.untilMs, dueMs) - clock.monotonicMs();
      const woken = await this.#mailbox.take(Math.max(0, waitMs), this.#stop.signal);
      if (this.#stop.signal.aborted) throw interruptedBy(this.#stop.signal);
      const jobIds = await this.#jobsToLookAt(woken);
      const read = (jobId: string): Promise<ReadJob | null> =>
        readJob(this.#reading, jobId, woken.get(jobId));
      for await (const job of readInTurn(jobIds, read, this.#stepBlobs.outputsAtOnce)) {
        const admitted = job === null ? null : await this.#judge(job);
        if (admitted !== null) yield admitted;
      }
    }
    this.#opinions.close();
    late.expect(this.#openByJobId);
  }

  /**
   * The time is over, and there is one more period. What a worker has is sent once more beside it, and the first
   * result counts, unless it has a copy already. What waits goes on waiting: a second delivery would wait behind it.
   */
  async #sendOpenAgain(nowMs: number): Promise<void> {
    const { limits, health, producer, sink } = this.#context;
    const { disputes } = this.#opinions;
    if (!this.#closing.takeSecondChance(nowMs))
      throw (
        undecidedDispute(disputes, health) ??
        tooFewResults(this.#openJobs(), this.#closing, limits.outerStepTimeoutMs, health)
      );
    const single = this.#openDeliveries().filter(
      (one) => !this.#heldBack.has(one) && one.copyId === null,
    );
    const held = await heldAmong(single, this.#reading);
    for (const delivery of held) {
      const { outerStep, jobIndex } = delivery.job;
      const reason = disputes.has(delivery) ? 'workers disagree' : 'too few results in time';
      sink({ kind: 'job-retried', outerStep, jobIndex, cause: 'late', reason });
    }
    const copies = this.#copies.beside(held, this.#termsOf);
    await this.#patiently(() => producer.add(copies));
  }

  /** Leaves jobs and blobs as they are: another coordinator, which has equal inputs, may use the blobs. */
  abandon(): void {
    this.#unsubscribe();
    this.#call.signal.removeEventListener('abort', this.#interrupt);
  }

  /** Ends the call, whether or not every job has a result. */
  async close(): Promise<void> {
    const { clock, producer, patience, blobs } = this.#context;
    this.abandon();
    const released = this.#openDeliveries().flatMap(({ order }) => this.#stepBlobs.released(order));
    const unused = [...released, ...this.#sharedOutputs];
    const jobIds = [...this.#openByJobId.keys(), ...this.#copies.superfluousIds];
    this.#openByJobId.clear();
    const tidy = async (): Promise<void> => {
      await producer.remove(jobIds);
      await Promise.all([...unused.map((ref) => blobs.delete(ref)), this.#stepBlobs.settled()]);
    };
    try {
      await patience.attemptQuietly(tidy, clock.monotonicMs() + CLOSE_TIMEOUT_MS);
    } catch {
      // Blobs left behind have a lifetime, and the next start of the run removes the jobs.
    }
  }

  async #jobsToLookAt(woken: ReadonlyMap<string, unknown>): Promise<string[]> {
    const { beat } = this.#context;
    const nowMs = this.#context.clock.monotonicMs();
    const all = woken.has(WAKE_ALL) || nowMs >= this.#reconcileAtMs;
    if (!all) return [...woken.keys()].filter((jobId) => this.#openByJobId.has(jobId));
    this.#reconcileAtMs = nowMs + RECONCILE_INTERVAL_MS;
    await this.#patiently(beat);
    await this.#workers.sayWhenThereAreNone(() => this.#openJobs());
    await this.#workers.requireHealthy(() => this.#openJobs());
    const isSent = ([, delivery]: [string, JobDelivery]): boolean => !this.#heldBack.has(delivery);
    return [...this.#openByJobId].filter(isSent).map(([jobId]) => jobId);
  }

  /** Returns the job's result when it now has one that is admitted. */
  async #judge(read: ReadJob): Promise<Admitted<Value> | null> {
    const { delivery, fate, output } = read;
    if (!this.#copies.decides(read)) return null;
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
      case 'declined':
        await this.#declined(delivery);
        return null;
      case 'refused':
      case 'sick':
        health[fate.kind](fate.worker, fate.reason);
        this.#context.fingerprints.reconsider({ refusedBy: fate.worker });
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
        await this.#workerLost(delivery, fate.reason, this.#copies.holderOf(read.jobId));
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
    this.#outputRead(delivery, result);
    const { worker } = result;
    if (!this.#opinions.isAsked(worker, delivery)) {
      this.#call.admission.refuse(result, 'not_asked');
      await this.#declined(delivery);
      return null;
    }
    await this.#context.machines.make(delivery.order.job, this.#stop.signal);
    const isOfKind = this.#context.fingerprints.admits(delivery.order.job, result);
    if (isOfKind && this.#opinions.isSettled(delivery)) {
      this.#continueWhile(await this.#opinions.weigh(delivery, result), delivery);
      return null;
    }
    const isConfirmed = this.#opinions.isConfirmed(delivery, result);
    const judged = this.#call.admission.judge({ result, output, isConfirmed });
    if (judged === 'other_fingerprint') {
      this.#deliverToOthers(delivery, result);
      return null;
    }
    if (typeof judged === 'string') {
      const reason = `its result was refused: ${judged}`;
      if (judged === 'norm_exceeded' && (await this.#opinions.doubt(delivery, result))) {
        this.#deliverAgain(delivery, 'rejected', reason);
        return null;
      }
      const failure = { worker, reason, rejection: judged };
      await this.#attemptFailed(delivery, 'rejected', failure);
      return null;
    }
    this.#attempts.succeeded(delivery, worker);
    this.#context.durations.note(delivery.job, result);
    this.#continueWhile(await this.#opinions.admitted(delivery, result), delivery);
    return judged;
  }

  /** Deletes the output, unless another job or another delivery of this one has it too. */
  #outputRead({ copyId }: JobDelivery, { output }: JobResult): void {
    // An output can equal the input of another job, which is still needed.
    if (this.#context.leases.isLeased(output)) return;
    if (copyId !== null) this.#sharedOutputs.push(output);
    else this.#stepBlobs.delete([output]);
  }

  /** Ends the job unless another worker has to compute it as well. */
  #continueWhile(isOpen: boolean, delivery: JobDelivery): void {
    if (isOpen) {
      this.#deliverNext(delivery, 0);
      return;
    }
    this.#copies.end(delivery);
    this.#openByJobId.delete(delivery.jobId);
    this.#stepBlobs.delete(this.#stepBlobs.released(delivery.order));
    delivery.order.settled?.();
  }

  /** The job reached a worker that it is not for. */
  async #declined(delivery: JobDelivery): Promise<void> {
    const isOpen = await this.#opinions.declined(delivery);
    if (isOpen) this.#deliverNext(delivery, delivery.declinedDelayMs);
    else this.#continueWhile(isOpen, delivery);
  }

  /** The job was computed before the run had a fingerprint, by a worker that has another one. */
  #deliverToOthers(delivery: JobDelivery, { worker, fingerprint }: JobResult): void {
    const { fingerprints, health } = this.#context;
    health.refused(
      worker,
      otherFingerprintReason(fingerprints.of(delivery.order.job), fingerprint),
    );
    this.#deliverNext(delivery);
  }

  /** Workers cannot keep their locks while Redis is away, so a lost lock then tells nothing. */
  async #workerLost(delivery: JobDelivery, reason: string, holder: string | null): Promise<void> {
    const wasAway = this.#context.patience.lastAwayMs >= delivery.sentMs;
    if (wasAway) this.#deliverAgain(delivery, 'lost', `${reason}, and Redis was away`);
    else {
      const failure =
        holder === null
          ? { worker: LOST_WORKER, reason }
          : { worker: holder, reason: `${reason}: worker ${holder}` };
      await this.#attemptFailed(delivery, 'failed', failure);
    }
  }

  async #attemptFailed(
    delivery: JobDelivery,
    cause: RunEventOf<'job-retried'>['cause'],
    failure: AttemptFailure,
  ): Promise<void> {
    if (this.#opinions.isSettled(delivery)) {
      this.#attempts.charge(failure);
      this.#continueWhile(this.#opinions.failed(delivery, failure.reason), delivery);
      return;
    }
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

  #deliverNext(delivery: JobDelivery, delayMs?: number): void {
    const { clock } = this.#context;
    this.#openByJobId.delete(delivery.jobId);
    if (this.#copies.takesOver(delivery)) return;
    delivery.deliverAgain(this.#termsOf(delivery));
    this.#openByJobId.set(delivery.jobId, delivery);
    this.#heldBack.set(delivery, clock.monotonicMs() + (delayMs ?? delivery.delayMs));
  }

  /** The terms of the next delivery of a job. */
  readonly #termsOf = (delivery: JobDelivery): DeliveryTerms => ({
    fingerprint: this.#context.fingerprints.of(delivery.order.job),
    notBy: this.#opinions.excludedFrom(delivery),
  });

  async #sendCopies(): Promise<void> {
    const { producer } = this.#context;
    const copies = await this.#copies.begin({
      workers: () => this.#patiently(() => producer.workers()),
      termsOf: this.#termsOf,
      isHeldBack: (delivery) => this.#heldBack.has(delivery),
    });
    if (copies.length > 0) await this.#patiently(() => producer.add(copies));
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

  #openDeliveries(): JobDelivery[] {
    return [...new Set(this.#openByJobId.values())];
  }

  #openJobs(): OpenJobs {
    return {
      orderCount: this.#call.orders.length,
      openCount: this.#openDeliveries().length,
      first: this.#openByJobId.values().next().value,
    };
  }
}

interface FirstDeliveriesOptions {
  readonly call: Pick<StepCall<object>, 'orders' | 'idSuffix'>;
  readonly workers: StepWorkers;
  readonly stepBlobs: StepBlobs;
  readonly opinions: SecondOpinions;
  readonly openByJobId: Map<string, JobDelivery>;
  readonly patiently: Patiently;
}

class FirstDeliveries {
  readonly #context: DispatchContext;
  readonly #options: FirstDeliveriesOptions;
  #sentCount = 0;

  constructor(context: DispatchContext, options: FirstDeliveriesOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Sends jobs until the window is full. Workers compute the first ones while the inputs of the others are encoded. */
  async fillWindow(): Promise<void> {
    const { call, openByJobId, workers } = this.#options;
    const unsentCount = call.orders.length - this.#sentCount;
    if (unsentCount === 0) return;
    const sendCount = await workers.sendCount({ openCount: openByJobId.size, unsentCount });
    const sending: Promise<unknown>[] = [];
    for (const order of call.orders.slice(this.#sentCount, this.#sentCount + sendCount)) {
      this.#sentCount += 1;
      const delivery = this.#deliveryOf(order);
      assertFits(delivery);
      openByJobId.set(delivery.jobId, delivery);
      const sent = this.#send(delivery);
      // It is thrown where it is awaited, which is later.
      sent.catch(() => undefined);
      sending.push(sent);
      // The commands leave before the next inputs are encoded.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(sending);
  }

  #deliveryOf(order: JobOrder): JobDelivery {
    const { epoch, leases, fingerprints, largeBlobs } = this.#context;
    const { opinions, call } = this.#options;
    const notBy = opinions.excludedFrom(null);
    const stamp = { epoch, largeBlobs, fingerprint: fingerprints.of(order.job), notBy };
    const job = jobOf(order, (bytes) => leases.refOf(bytes), stamp);
    return new JobDelivery(order, job, call.idSuffix);
  }

  /** The queue's own server takes inputs before the jobs that follow them. Another store may take longer. */
  async #send(delivery: JobDelivery): Promise<void> {
    const { clock, producer, largeBlobs } = this.#context;
    const { stepBlobs, patiently } = this.#options;
    const put = stepBlobs.put(delivery.order);
    if (largeBlobs !== undefined) await put;
    await Promise.all([put, patiently(() => producer.add([delivery]))]);
    delivery.sentMs = clock.monotonicMs();
  }
}

/** The parts of a dispatcher that all its steps share. */
export interface DispatchContext {
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
  readonly machines: Pick<MachineChoice, 'make'>;
  readonly late: Pick<LateResults, 'expect'>;
  readonly durations: JobDurations;
  readonly counted: WorkerCount;
  /** Whether a job is computed by a second worker although nobody doubts its result. */
  readonly recomputes: (job: Job) => boolean;
  /** Absent where all blobs lie beside the queue. */
  readonly largeBlobs?: LargeBlobs | undefined;
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

export class Mailbox<News> {
  readonly #clock: Clock;
  #waking = new Map<string, News>();
  #arrived: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(item: string, news: News): void {
    this.#waking.set(item, news);
    this.#arrived();
  }

  /**
   * Returns the arrived items. Waits for the first one, at most `timeoutMs` or until the signal
   * aborts.
   */
  async take(timeoutMs: number, signal: AbortSignal): Promise<ReadonlyMap<string, News>> {
    if (this.#waking.size === 0 && timeoutMs > 0 && !signal.aborted) {
      // AbortSignal.any would pile up listeners on a signal that lives as long as the run.
      const enough = new AbortController();
      // A reason of its own spares the exception that the platform would make.
      const wake = (): void => enough.abort('woken');
      this.#arrived = wake;
      signal.addEventListener('abort', wake, { once: true });
      await this.#clock.sleep(timeoutMs, enough.signal);
      signal.removeEventListener('abort', wake);
      this.#arrived = () => undefined;
    }
    const taken = this.#waking;
    this.#waking = new Map();
    return taken;
  }
}

/**
 * Keeps up to `aheadCount` reads under way and yields their values in the order of `items`.
 *
 * @throws what `read` throws, when it is the item's turn. The reads behind it end unheard.
 */
export async function* readInTurn<Item, Value>(
  items: readonly Item[],
  read: (item: Item) => Promise<Value>,
  aheadCount: number,
): AsyncGenerator<Value> {
  const underWay: Promise<Value>[] = [];
  for (const item of items) {
    if (underWay.length === aheadCount) yield await takenFrom(underWay);
    const reading = read(item);
    // It is thrown where it is awaited, which is later.
    reading.catch(() => undefined);
    underWay.push(reading);
  }
  while (underWay.length > 0) yield await takenFrom(underWay);
}

function takenFrom<Value>(underWay: Promise<Value>[]): Promise<Value> {
  const first = underWay.shift();
  if (first === undefined) throw new Error('no read is under way');
  return first;
}
