/**
 * Carries the jobs of one call of `Dispatcher.run`. It keeps a bounded window of jobs on the queue, which bounds the
 * inputs in memory, reads their records when woken and at intervals, and delivers a job again until it has a result. It
 * holds redeliveries back by its own clock, so that no other clock matters.
 */

import type { Clock } from '../../shared/base/clock.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';
import { WAKE_ALL, type JobProducer, type JobRecord } from '../../shared/queue/job-queue.js';
import {
  JOB_BYTE_COUNT_MAX,
  type CarriedJob,
  type JobResult,
  type LargeBlobs,
  taskCountOf,
} from '../../shared/queue/protocol.js';
import { SIGNATURE_BYTE_COUNT } from '../../shared/queue/signed-job-queue.js';
import { RunFencedError } from '../../shared/storage/lease.js';
import type { BlobRef, BlobStore } from '../../shared/storage/blob-store.js';
import type { Admission, FingerprintDemand, MachineChoice } from './admission.js';
import { jobOf, type Admitted, type JobOrder } from './dispatcher.js';
import {
  attemptsUsedUp,
  fateOf,
  JobDelivery,
  LOST_WORKER,
  type AttemptFailure,
  type ReadJob,
} from './job-delivery.js';
import { KeptSums } from './kept-sums.js';
import { interruptedBy, type Patiently, type QueuePatience } from './queue-patience.js';
import { StepBlobs, type BlobLeases } from './step-blobs.js';
import { StepWorkers, type WorkerCount, type WorkerHealth } from './worker-health.js';

const RECONCILE_INTERVAL_MS = 1_500;
/** Lifetimes clean up too, so cleaning up does not wait for a Redis that is away. */
const CLOSE_TIMEOUT_MS = 500;

type RetryCause = RunEventOf<'job-retried'>['cause'];

export interface DispatchContext {
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
  readonly counted: WorkerCount;
  /** Absent where all blobs lie beside the queue. */
  readonly largeBlobs?: LargeBlobs | undefined;
  readonly limits: QueueConfig;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

interface StepCall<Value extends object> {
  readonly orders: readonly JobOrder[];
  readonly admission: Admission<Value>;
  readonly signal: AbortSignal;
  readonly attemptsMax: number;
  /** Sets the ids of this call apart from those of any other call or start. */
  readonly idSuffix: string;
}

export class DispatchStep<Value extends object> {
  readonly #context: DispatchContext;
  readonly #call: StepCall<Value>;
  readonly #openByJobId = new Map<string, JobDelivery>();
  /** Open deliveries that are not on the queue yet, with the time when they are due. */
  readonly #heldBack = new Map<JobDelivery, number>();
  readonly #stepBlobs: StepBlobs;
  readonly #kept: KeptSums;
  /** The next to be sent. A join comes to the front when its parts are there. */
  readonly #unsent: JobOrder[];
  readonly #workers: StepWorkers;
  /** Wake-ups by job, with the record where the wake-up has it. */
  readonly #mailbox: Mailbox<JobRecord | undefined>;
  readonly #unsubscribe: () => void;
  /** Aborts with the caller's signal, and when the dispatcher closes. */
  readonly #stop = new AbortController();
  /** Calls to the queue are given up at this time. */
  #deadlineMs: number;
  #sendingAhead = Promise.resolve();
  #reconcileAtMs = 0;

  constructor(context: DispatchContext, call: StepCall<Value>) {
    const { clock, producer, limits } = context;
    this.#context = context;
    this.#call = call;
    this.#deadlineMs = clock.monotonicMs() + limits.outerStepTimeoutMs;
    this.#workers = new StepWorkers(context, this.#patiently);
    this.#stepBlobs = new StepBlobs(context, this.#patiently);
    this.#kept = new KeptSums(call.orders, context.leases);
    this.#unsent = call.orders.filter(({ parts }) => parts === undefined);
    this.#mailbox = new Mailbox(clock);
    this.#unsubscribe = producer.subscribe((jobId, record) => {
      // A step that is not read yet would pile up those of others.
      if (jobId === WAKE_ALL || this.#openByJobId.has(jobId)) this.#mailbox.put(jobId, record);
    });
    if (call.signal.aborted) this.stop();
    else call.signal.addEventListener('abort', this.#interrupt, { once: true });
  }

  readonly #patiently: Patiently = (action) =>
    this.#context.patience.attempt(action, this.#deadlineMs, this.#stop.signal);

  /** Makes `results` throw the reason if it is a cancellation, otherwise `interrupted`. */
  stop(reason?: unknown): void {
    this.#stop.abort(reason);
  }

  readonly #interrupt = (): void => this.stop();

  /** Begins to send jobs before anyone reads results. A failure is thrown by `results`. */
  sendAhead(): void {
    this.#sendingAhead = this.#fillWindow();
    this.#sendingAhead.catch(() => undefined);
  }

  async *results(): AsyncGenerator<Admitted<Value>> {
    const { clock, limits } = this.#context;
    this.#deadlineMs = clock.monotonicMs() + limits.outerStepTimeoutMs;
    await this.#sendingAhead;
    this.#reconcileAtMs = clock.monotonicMs() + RECONCILE_INTERVAL_MS;
    while (this.#call.admission.openCount > 0) {
      if (clock.monotonicMs() >= this.#deadlineMs) throw this.#unfinished();
      await this.#fillWindow();
      await this.#workers.quarantine();
      const dueMs = await this.#deliverDue();
      const waitMs = Math.min(this.#reconcileAtMs, this.#deadlineMs, dueMs) - clock.monotonicMs();
      const woken = await this.#mailbox.take(Math.max(0, waitMs), this.#stop.signal);
      if (this.#stop.signal.aborted) throw interruptedBy(this.#stop.signal);
      const jobIds = await this.#jobsToLookAt(woken);
      const read = (jobId: string): Promise<ReadJob | null> => this.#read(jobId, woken.get(jobId));
      for await (const job of readInTurn(jobIds, read, this.#stepBlobs.outputsAtOnce)) {
        const admitted = job === null ? null : await this.#judge(job);
        if (admitted !== null) yield admitted;
      }
    }
  }

  get hasOpenJobs(): boolean {
    return this.#openByJobId.size > 0;
  }

  /** Leaves jobs and blobs as they are: another coordinator, which has equal inputs, may use the blobs. */
  abandon(): void {
    this.#unsubscribe();
    this.#call.signal.removeEventListener('abort', this.#interrupt);
  }

  /** @returns whether another coordinator has taken over the run meanwhile */
  async close(): Promise<boolean> {
    const { beat, clock, producer, patience, blobs } = this.#context;
    this.abandon();
    const open = [...this.#openByJobId.values()];
    const jobIds = [...this.#openByJobId.keys()];
    this.#openByJobId.clear();
    let unused: readonly BlobRef[] | null = null;
    const release = (): readonly BlobRef[] =>
      (unused ??= [
        ...open.flatMap(({ order }) => this.#stepBlobs.released(order)),
        ...this.#kept.release(),
      ]);
    const tidy = async (): Promise<boolean> => {
      // A coordinator that stalled does not know yet that another one uses its blobs.
      if (jobIds.length > 0) await beat();
      await producer.remove(jobIds);
      // Not before, because a step that is closed meanwhile deletes what it is the last to use.
      const refs = release();
      await Promise.all([...refs.map((ref) => blobs.delete(ref)), this.#stepBlobs.settled()]);
      return false;
    };
    // Otherwise blobs stay in use and have a lifetime, and the next start of the run removes the jobs.
    const untilMs = clock.monotonicMs() + CLOSE_TIMEOUT_MS;
    return patience
      .attemptQuietly(tidy, untilMs)
      .catch((error: unknown) => error instanceof RunFencedError);
  }

  /** Sends jobs until the window is full. Workers compute the first ones while the inputs of the others are encoded. */
  async #fillWindow(): Promise<void> {
    const unsentCount = this.#unsent.length;
    if (unsentCount === 0) return;
    // Joins whose sums are computed again take no room, which their parts may need.
    const isWaiting = ({ order }: JobDelivery): boolean => !this.#kept.isComplete(order);
    const openCount = this.#openByJobId.size - [...this.#heldBack.keys()].filter(isWaiting).length;
    const sendCount = await this.#workers.sendCount({ openCount, unsentCount });
    const sending: Promise<unknown>[] = [];
    for (const order of this.#unsent.splice(0, sendCount)) {
      const job = this.#jobOf(order);
      const delivery =
        this.#kept.reopened.get(job.jobIndex)?.deliverAgain(job) ??
        new JobDelivery(order, job, this.#call.idSuffix);
      assertFits(delivery);
      this.#openByJobId.set(delivery.jobId, delivery);
      const sent = this.#sendFirst(delivery);
      // It is thrown where it is awaited, which is later.
      sent.catch(() => undefined);
      sending.push(sent);
      // The commands leave before the next inputs are encoded.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(sending);
  }

  #jobOf(order: JobOrder): CarriedJob {
    const { epoch, fingerprints, leases, largeBlobs } = this.#context;
    const fingerprint = fingerprints.of(order.job);
    const sumsOf = (jobIndex: number) => this.#kept.get(jobIndex)?.blob;
    const stamp = { epoch, largeBlobs, fingerprint, sumsOf };
    return jobOf(order, (bytes) => leases.refOf(bytes), stamp);
  }

  /** The queue's own server takes inputs before the jobs that follow them. Another store may take longer. */
  async #sendFirst(delivery: JobDelivery): Promise<void> {
    const { largeBlobs } = this.#context;
    const put = this.#stepBlobs.put(delivery.order);
    if (largeBlobs !== undefined) await put;
    await Promise.all([put, this.#send([delivery])]);
  }

  #unfinished(): QianmoError {
    const { limits, health } = this.#context;
    const clouded = health.describe();
    return errorOf('transient', 'an outer step did not get all its results in time', {
      ...(this.#openPlace === undefined ? {} : { where: this.#openPlace }),
      expected: `${this.#call.orders.length} results within ${limits.outerStepTimeoutMs} ms`,
      found: `${this.#openByJobId.size} jobs still open${clouded === null ? '' : `; ${clouded}`}`,
      cure: 'check that workers run and reach Redis, then continue with --resume',
    });
  }

  async #jobsToLookAt(woken: ReadonlyMap<string, unknown>): Promise<string[]> {
    const { beat } = this.#context;
    const nowMs = this.#context.clock.monotonicMs();
    const all = woken.has(WAKE_ALL) || nowMs >= this.#reconcileAtMs;
    if (!all) return [...woken.keys()].filter((jobId) => this.#openByJobId.has(jobId));
    this.#reconcileAtMs = nowMs + RECONCILE_INTERVAL_MS;
    await this.#patiently(beat);
    await this.#workers.reportMissingWorkers(this.#openByJobId.size);
    await this.#workers.requireHealthy(this.#openPlace);
    return [...this.#openByJobId].flatMap(([jobId, delivery]) =>
      this.#heldBack.has(delivery) ? [] : [jobId],
    );
  }

  /**
   * Reads the state of a job that is on the queue, and its output where it has one.
   *
   * @param told the record that came with the wake-up. If it has a result, the queue is not asked.
   * @returns null if the job is not open.
   */
  async #read(jobId: string, told: JobRecord | undefined): Promise<ReadJob | null> {
    const delivery = this.#openByJobId.get(jobId);
    if (delivery === undefined) return null;
    const { job } = delivery;
    const { producer } = this.#context;
    let fate = told === undefined ? null : fateOf(told, job);
    if (fate?.kind !== 'result')
      fate = fateOf(await this.#patiently(() => producer.read(jobId)), job);
    const output = fate.kind === 'result' ? await this.#stepBlobs.output(fate.result.output) : null;
    return { delivery, fate, output };
  }

  async #judge(read: ReadJob): Promise<Admitted<Value> | null> {
    const { delivery, fate, output } = read;
    const { health } = this.#context;
    switch (fate.kind) {
      case 'open':
        delivery.holder = fate.holder ?? delivery.holder;
        break;
      case 'result':
        return this.#judgeResult(delivery, fate.result, output);
      case 'hopeless':
        throw delivery.hopeless(fate.reason);
      case 'lost':
        await this.#stepBlobs.restore(delivery.order);
        await this.#recomputeLostParts(delivery);
        this.#deliverAgain(delivery, 'lost', fate.reason);
        break;
      case 'refused':
      case 'sick':
        health[fate.kind](fate.worker, fate.reason);
        this.#context.fingerprints.reconsider({ refusedBy: fate.worker });
        this.#deliverNext(delivery);
        break;
      case 'failed':
        await this.#attemptFailed(delivery, 'failed', fate);
        break;
      case 'forged':
        this.#call.admission.refuse({ ...delivery.job, worker: fate.worker }, 'forged');
        await this.#attemptFailed(delivery, 'rejected', { ...fate, rejection: 'forged' });
        break;
      case 'worker-lost':
        await this.#workerLost(delivery, fate.reason);
        break;
    }
    return null;
  }

  /**
   * Opens the jobs again whose sums a join needs and the store has lost, and those that they need in turn. They are sent
   * within the window: a server that forgets may have lost the sums of a whole outer step.
   */
  async #recomputeLostParts({ order, where }: JobDelivery): Promise<void> {
    const { blobs, sink } = this.#context;
    const unsent: JobOrder[] = [];
    for (const { jobIndex } of order.parts ?? []) {
      // Without an entry, it is under way.
      const { delivery, blob = null } = this.#kept.get(jobIndex) ?? {};
      if (delivery === undefined) continue;
      if (blob !== null && (await this.#patiently(() => blobs.has(blob)))) continue;
      this.#kept.reopen(jobIndex);
      this.#call.admission.reopen(jobIndex);
      await this.#recomputeLostParts(delivery);
      const reason = `its sums are lost, and ${where} needs them`;
      sink({
        ...{ kind: 'job-retried', jobIndex, cause: 'lost', reason },
        outerStep: delivery.job.outerStep,
      });
      if (!this.#kept.mustWait(delivery.order)) unsent.push(delivery.order);
    }
    this.#unsent.unshift(...unsent);
  }

  async #judgeResult(
    delivery: JobDelivery,
    result: JobResult,
    output: Uint8Array | null,
  ): Promise<Admitted<Value> | null> {
    const { fingerprints, health, leases, machines } = this.#context;
    if (output === null) {
      this.#deliverAgain(delivery, 'output-missing', 'its output blob is not there');
      return null;
    }
    // An output can equal the input of another job, which is still needed.
    if (!leases.isLeased(result.output)) this.#stepBlobs.delete([result.output]);
    const { worker } = result;
    const { job } = delivery.order;
    await machines.make(job, this.#stop.signal);
    const judged = this.#call.admission.judge({ result, output });
    const sums = result.sums?.blob;
    if (typeof judged === 'string' && sums !== undefined && !leases.isLeased(sums))
      this.#stepBlobs.delete([sums]);
    if (judged === 'other_fingerprint') {
      // The job was computed before the run had a fingerprint.
      const demanded = fingerprints.of(job) ?? 'another one';
      const reason = `its result has fingerprint ${result.fingerprint}, and the run computes on ${demanded}; cure: use machines of one kind, or train with compute.portable: true`;
      health.refused(worker, reason);
      this.#deliverNext(delivery);
      return null;
    }
    if (typeof judged === 'string') {
      const reason = `its result was refused: ${judged}`;
      await this.#attemptFailed(delivery, 'rejected', { worker, reason, rejection: judged });
      return null;
    }
    for (const failure of delivery.failures) if (failure.worker !== worker) this.#charge(failure);
    delivery.forgetFailures();
    // Adding sums tells nothing about a worker that cannot compute.
    if (delivery.order.parts === undefined) health.didJob(worker);
    // Before the sums of its parts go: they may equal its own.
    if (sums !== undefined) this.#unsent.unshift(...this.#kept.keep(delivery, sums));
    this.#end(delivery);
    return this.#kept.reopened.has(job.jobIndex) ? null : judged;
  }

  #end(delivery: JobDelivery): void {
    const { parts = [] } = delivery.order;
    this.#openByJobId.delete(delivery.jobId);
    this.#stepBlobs.delete(this.#stepBlobs.released(delivery.order));
    this.#stepBlobs.delete(this.#kept.release(parts.map(({ jobIndex }) => jobIndex)));
    delivery.order.settled?.();
  }

  /** Workers cannot keep their locks while Redis is away, so a lost lock then tells nothing. */
  async #workerLost(delivery: JobDelivery, reason: string): Promise<void> {
    const { holder } = delivery;
    const wasAway = this.#context.patience.lastAwayMs >= delivery.sentMs;
    if (wasAway) {
      this.#deliverAgain(delivery, 'lost', `${reason}, and Redis was away`);
      return;
    }
    const named = holder === null ? reason : `${reason}: worker ${holder}`;
    await this.#attemptFailed(delivery, 'failed', { worker: holder ?? LOST_WORKER, reason: named });
  }

  /**
   * Decides whose fault a failed attempt is, the job's or a worker's (decision 0028). Failures on sick workers do not count.
   *
   * @throws QianmoError `failed` when the attempts are used up and no other worker is left to try.
   */
  async #attemptFailed(
    delivery: JobDelivery,
    cause: RetryCause,
    failure: AttemptFailure,
  ): Promise<void> {
    const { attemptsMax } = this.#call;
    delivery.noteFailure(failure);
    const counted = delivery.countedFailures((worker) => this.#context.health.isSick(worker));
    if (counted.length >= attemptsMax && !(await this.#isLeftToAnother(delivery, counted))) {
      const { where, job } = delivery;
      throw attemptsUsedUp({ where, jobIndex: job.jobIndex }, attemptsMax, failure);
    }
    this.#deliverAgain(delivery, cause, failure.reason);
  }

  /**
   * A job is given up only after two workers have failed it, where there are two. The only worker that
   * has failed it is quarantined, longer each time, so that another one takes it.
   */
  async #isLeftToAnother(
    delivery: JobDelivery,
    counted: readonly AttemptFailure[],
  ): Promise<boolean> {
    const { health } = this.#context;
    const suspect = delivery.onlyWorkerOf(counted);
    // One failure tells nothing about a worker.
    if (counted.length < 2 || suspect === null) return false;
    if (!health.hasHealthyOther([suspect], await this.#workers.names())) return false;
    delivery.suspect = suspect;
    const reason = counted.at(-1)?.reason ?? '';
    health.sick(suspect, `it failed one job ${counted.length} times: ${reason}`);
    return true;
  }

  /** Charges the worker that failed a job which another one has done, if its name is known. */
  #charge({ worker, reason }: AttemptFailure): void {
    if (worker !== LOST_WORKER) this.#context.health.charge(worker, reason);
  }

  #deliverAgain(delivery: JobDelivery, cause: RetryCause, reason: string): void {
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
    const ready = [...this.#heldBack].filter(([{ order }]) => this.#kept.isComplete(order));
    const due = ready.filter(([, dueMs]) => dueMs <= nowMs);
    for (const [delivery] of due) {
      this.#heldBack.delete(delivery);
      delivery.job = this.#jobOf(delivery.order);
    }
    if (due.length > 0) await this.#send(due.map(([delivery]) => delivery));
    const later = ready.flatMap(([delivery, dueMs]) => (this.#heldBack.has(delivery) ? dueMs : []));
    return Math.min(Number.POSITIVE_INFINITY, ...later);
  }

  async #send(deliveries: readonly JobDelivery[]): Promise<void> {
    const { clock, producer } = this.#context;
    await this.#patiently(() => producer.add(deliveries));
    for (const delivery of deliveries) delivery.sentMs = clock.monotonicMs();
  }

  /** Names an open job. */
  get #openPlace(): string | undefined {
    return [...this.#openByJobId.values()][0]?.where;
  }
}

/** @throws QianmoError `usage` when the job, without a fingerprint, is larger than the queue takes. */
export function assertFits({ job, where }: Pick<JobDelivery, 'job' | 'where'>): void {
  const { fingerprint: _fingerprint, ...jobAlone } = job;
  const byteCount = Buffer.byteLength(JSON.stringify(jobAlone));
  const byteCountMax = JOB_BYTE_COUNT_MAX - SIGNATURE_BYTE_COUNT;
  if (byteCount <= byteCountMax) return;
  throw errorOf('usage', `a job of ${taskCountOf(job)} tasks is too large for the queue`, {
    where,
    expected: `at most ${byteCountMax} bytes`,
    found: `${byteCount} bytes`,
    cure: 'lower training.microBatchRowsMax, or shorten the sections model and method',
  });
}

/** Collects wake-ups until they are taken together. Equal wake-ups count once: the latest. */
class Mailbox<News> {
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

  /** Returns the arrived items. Waits for the first one, at most `timeoutMs` or until the signal aborts. */
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
async function* readInTurn<Item, Value>(
  items: readonly Item[],
  read: (item: Item) => Promise<Value>,
  aheadCount: number,
): AsyncGenerator<Value> {
  const underWay: Promise<Value>[] = [];
  let startedCount = 0;
  for (;;) {
    for (const item of items.slice(startedCount, startedCount + aheadCount - underWay.length)) {
      const reading = read(item);
      // It is thrown where it is awaited, which is later.
      reading.catch(() => undefined);
      underWay.push(reading);
      startedCount += 1;
    }
    const next = underWay.shift();
    if (next === undefined) return;
    yield await next;
  }
}
