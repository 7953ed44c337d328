/**
 * The job queue in this process, by the rules of `shared/queue/job-queue.ts` and on the clock that it is given. Jobs
 * and results pass as JSON, as they would over a network. It never loses an event by itself.
 */

import {
  RunFencedError,
  type LeaseAnswer,
  type LeaseHolder,
  type RunEnd,
} from '../../shared/storage/lease.js';
import type { Clock } from '../../shared/base/clock.js';
import type {
  BlobLimits,
  Cancellation,
  ConnectedWorker,
  JobConsumer,
  JobOutcome,
  JobProducer,
  JobQueue,
  JobRecord,
  OpenConsumerOptions,
  QueueController,
  TakeTerms,
  WakeUp,
} from '../../shared/queue/job-queue.js';
import { isLeftover, QUEUED_BYTE_COUNT_MAX, startOf } from '../../shared/queue/protocol.js';
import { formatJobFailure, WORKER_LOST } from '../../shared/queue/queue-errors.js';
import {
  FINISHED_COUNT_MAX,
  LOCK_DURATION_MS,
  LOCK_RENEWAL_INTERVAL_MS,
  RUN_END_KEPT_MS,
  RUN_LEASE_MS,
  STALLED_INTERVAL_MS,
  TAKE_WAIT_MS_MAX,
  WORKER_SILENCE_MS_MAX,
} from '../../shared/queue/timing.js';
import { ObjectBlobStore, type BlobStore } from '../../shared/storage/blob-store.js';
import { MemoryObjectStore, promised } from '../../shared/storage/memory-object-store.js';

const RETRY_DELAY_MS = 500;
/** Why a wait ends. A reason of its own avoids the exception that the platform would make. */
const OVER = 'over';

/** The lock of a job. It holds while the queue has the same token and its time has not passed. */
interface JobLock {
  readonly jobId: string;
  readonly token: string;
}

interface LockedJob {
  readonly lock: JobLock;
  readonly data: unknown;
}

interface StoredJob {
  /** JSON, as it would be on a server. */
  readonly data: string;
  state: 'waiting' | 'active' | 'completed' | 'failed';
  lock: { token: string; endMs: number } | null;
  /** The name of the worker that took the job last. */
  worker: string;
  /** Set by the check for stalled jobs; cleared when the lock is extended. */
  isSuspect: boolean;
  /** Set when the job has lost its worker; it fails when it is taken next. */
  hasLostWorker: boolean;
  /** JSON of the result, or the reason of the failure. */
  outcome: string;
}

interface LiveWorker {
  readonly record: ConnectedWorker;
  readonly beatMs: number;
}

interface StoredLease {
  readonly epoch: number;
  /** Null after its holder has released it. */
  readonly holder: LeaseHolder | null;
  readonly endMs: number;
}

/** The data that a replica has too. */
const emptyState = () => ({
  jobs: new Map<string, StoredJob>(),
  /** The next job first. */
  waiting: [] as string[],
  /** In order of finishing. */
  finished: [] as string[],
  checkedMs: Number.NEGATIVE_INFINITY,
  workers: new Map<string, LiveWorker>(),
  leases: new Map<string, StoredLease>(),
  quarantineEndMs: new Map<string, number>(),
});

export class MemoryJobQueue implements JobQueue {
  readonly address = 'memory';
  readonly #clock: Clock;
  readonly #blobs: BlobStore;
  #state = emptyState();
  readonly #cancellationByRun = new Map<string, Cancellation>();
  readonly #endByRun = new Map<string, RunEnd & { readonly atMs: number }>();
  readonly #listeners = new Set<WakeUp>();
  /** End the waits of consumers that have found no job. */
  readonly #waits = new Set<AbortController>();

  constructor({ clock, blobs = new MemoryBlobStore() }: { clock: Clock; blobs?: BlobStore }) {
    this.#clock = clock;
    this.#blobs = blobs;
  }

  /** Returns a function that brings back the state of now, without blobs and cancellations, as a replica does that takes over. */
  remember(): () => void {
    const kept = structuredClone(this.#state);
    return () => {
      this.#state = structuredClone(kept);
      this.#endWaits();
    };
  }

  openProducer(start: string): Promise<JobProducer> {
    const closed = new AbortController();
    void this.#checkForStalledJobs(closed.signal);
    let held: { readonly runId: string; readonly epoch: number } | null = null;
    return Promise.resolve({
      takeLease: (runId, holder, over) => {
        const answer = this.#takeLease(runId, holder, over);
        if (answer.kind === 'taken') held = { runId, epoch: answer.epoch };
        return Promise.resolve(answer);
      },
      renewLease: (holder) =>
        promised(() => {
          if (held === null) throw new Error('the lease was not taken');
          this.#requireLease(held);
          this.#keepLease(held, holder);
          const cancellation = this.#cancellationByRun.get(held.runId) ?? null;
          return cancellation?.start === holder.start ? cancellation : null;
        }),
      releaseLease: (end) =>
        promised(() => {
          const lease = held === null ? undefined : this.#state.leases.get(held.runId);
          if (held === null || lease?.epoch !== held.epoch) return;
          const { runId } = held;
          if (lease.holder !== null && end !== undefined) {
            const { start } = lease.holder;
            this.#endByRun.set(runId, { start, ...end, atMs: this.#nowMs() });
          }
          this.#keepLease(held, null);
          held = null;
        }),
      add: (added) =>
        promised(() => {
          if (held !== null) this.#requireLease(held);
          this.addUnfenced(added);
        }),
      read: (jobId) => Promise.resolve(this.#recordOf(jobId)),
      remove: (jobIds) => promised(() => void this.#remove(jobIds)),
      removeLeftovers: (runId, epoch) =>
        promised(() =>
          this.#remove(
            this.#state.waiting.filter((jobId) =>
              isLeftover(JSON.parse(this.#state.jobs.get(jobId)?.data ?? '{}'), runId, epoch),
            ),
          ),
        ),
      blobs: () => this.#blobs,
      workers: () => Promise.resolve(this.#workers()),
      quarantine: (worker, durationMs) =>
        promised(() => void this.#state.quarantineEndMs.set(worker, this.#nowMs() + durationMs)),
      subscribe: (listener) => {
        const own: WakeUp = (jobId, record) => {
          if (start === '' || startOf(jobId) === start) listener(jobId, record);
        };
        this.#listeners.add(own);
        return () => void this.#listeners.delete(own);
      },
      close: () => promised(() => closed.abort()),
    });
  }

  openConsumer(options: OpenConsumerOptions): Promise<JobConsumer> {
    return Promise.resolve(new CommandConsumer(this.enter(options), this.#clock, options));
  }

  /** Registers a worker, and returns the commands of its consumer. */
  enter({
    name: wanted,
    nonce: instance,
    device,
    report = () => null,
  }: Omit<OpenConsumerOptions, 'process' | 'onError' | 'onReconnected'>) {
    const taken = new Set(this.#workers().map((worker) => worker.name));
    let name = wanted;
    for (let number = 2; taken.has(name); number += 1) name = `${wanted}-${number}`;
    const self = { name, instance, device, sinceMs: this.#clock.epochMs() };
    const beat = (jobId: string | null): number => {
      const known = this.#state.workers.get(instance)?.record.report ?? null;
      const record = { ...self, jobId, report: report() ?? known };
      this.#state.workers.set(instance, { record, beatMs: this.#clock.monotonicMs() });
      return this.#workers().length;
    };
    beat(null);
    return {
      server: this.address,
      name,
      blobs: (_limits: BlobLimits): BlobStore => this.#blobs,
      take: (token: string, waitMs: number, signal: AbortSignal) =>
        this.#take(token, name, waitMs, signal),
      extend: ({ jobId, token }: JobLock): Promise<boolean> =>
        promised(() => {
          const job = this.#state.jobs.get(jobId);
          if (job?.lock?.token !== token || job.lock.endMs <= this.#nowMs()) return false;
          job.lock.endMs = this.#nowMs() + LOCK_DURATION_MS;
          job.isSuspect = false;
          return true;
        }),
      end: (lock: JobLock, outcome: EndedOutcome): Promise<void> =>
        promised(() => this.#end(lock, outcome)),
      beat: (jobId: string | null): Promise<number> => promised(() => beat(jobId)),
      quarantinedMs: (): Promise<number> => {
        const endMs = this.#state.quarantineEndMs.get(name) ?? -Infinity;
        return Promise.resolve(Math.max(0, endMs - this.#nowMs()));
      },
      leave: (): Promise<void> => promised(() => void this.#state.workers.delete(instance)),
    };
  }

  openController(): Promise<QueueController> {
    return Promise.resolve({
      workers: () => Promise.resolve(this.#workers()),
      find: (runId) => Promise.resolve(this.#findRun(runId)),
      endOf: (runId, start) => {
        const found = this.#endByRun.get(runId);
        if (found?.start !== start || this.#nowMs() - found.atMs > RUN_END_KEPT_MS)
          return Promise.resolve(null);
        const { atMs: _atMs, ...end } = found;
        return Promise.resolve(end);
      },
      cancel: (runId, cancellation) => {
        this.#cancellationByRun.set(runId, cancellation);
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    });
  }

  /** Adds jobs whoever has the lease. A simulation compares the epoch afterwards, as clients of Redis do. */
  addUnfenced(added: Parameters<JobProducer['add']>[0]): void {
    const jobs = added.map(({ jobId, job }) => ({ jobId, data: JSON.stringify(job) }));
    for (const { jobId, data } of jobs)
      if (Buffer.byteLength(data) > QUEUED_BYTE_COUNT_MAX)
        throw new Error(
          `The size of job ${jobId} exceeds the limit ${QUEUED_BYTE_COUNT_MAX} bytes`,
        );
    for (const { jobId, data } of jobs) {
      if (this.#state.jobs.has(jobId)) continue;
      this.#state.jobs.set(jobId, {
        ...{ data, state: 'waiting', lock: null, worker: '' },
        ...{ isSuspect: false, hasLostWorker: false, outcome: '' },
      });
      this.#state.waiting.push(jobId);
    }
    this.#endWaits();
  }

  #nowMs(): number {
    return this.#clock.monotonicMs();
  }

  #workers(): ConnectedWorker[] {
    const { workers } = this.#state;
    for (const [instance, { beatMs }] of [...workers])
      if (this.#nowMs() - beatMs > WORKER_SILENCE_MS_MAX) workers.delete(instance);
    return [...workers.values()].map(({ record }) => record);
  }

  #takeLease(runId: string, holder: LeaseHolder, over: string | null): LeaseAnswer {
    const found = this.#state.leases.get(runId);
    const other = found === undefined || found.endMs <= this.#nowMs() ? null : found.holder;
    if (found !== undefined && other?.start === holder.start)
      return { kind: 'taken', epoch: found.epoch };
    const mark = JSON.stringify(other);
    if (other !== null && mark !== over) return { kind: 'held', holder: other, mark };
    // Time makes it larger than one that was forgotten.
    const epoch = Math.max((found?.epoch ?? 0) + 1, Math.floor(this.#clock.epochMs()));
    this.#keepLease({ runId, epoch }, holder);
    return { kind: 'taken', epoch };
  }

  /** @throws RunFencedError if the lease has a later epoch. */
  #requireLease({ runId, epoch }: { readonly runId: string; readonly epoch: number }): void {
    if ((this.#state.leases.get(runId)?.epoch ?? epoch) > epoch)
      throw new RunFencedError(`run ${runId} in memory`);
  }

  #keepLease(
    { runId, epoch }: { readonly runId: string; readonly epoch: number },
    holder: LeaseHolder | null,
  ): void {
    this.#state.leases.set(runId, { epoch, holder, endMs: this.#nowMs() + RUN_LEASE_MS });
  }

  #findRun(runId: string): LeaseHolder | null {
    const found = this.#state.leases.get(runId);
    return found === undefined || found.endMs <= this.#nowMs() ? null : found.holder;
  }

  #recordOf(jobId: string): JobRecord {
    const job = this.#state.jobs.get(jobId);
    if (job === undefined) return { state: 'gone' };
    const { state, outcome, worker } = job;
    if (state === 'failed') return { state, reason: outcome, worker };
    if (state !== 'completed') return { state: 'open', holder: worker === '' ? null : worker };
    return { state, returnValue: JSON.parse(outcome) as unknown, worker };
  }

  /** Removes jobs that nobody holds. Returns the number of the given ones. */
  #remove(jobIds: readonly string[]): number {
    const state = this.#state;
    const removed = new Set(
      jobIds.filter((jobId) => (state.jobs.get(jobId)?.lock?.endMs ?? 0) <= this.#nowMs()),
    );
    for (const jobId of removed) state.jobs.delete(jobId);
    state.waiting = state.waiting.filter((jobId) => !removed.has(jobId));
    state.finished = state.finished.filter((jobId) => !removed.has(jobId));
    return jobIds.length;
  }

  async #take(
    token: string,
    worker: string,
    waitMs: number,
    stopped: AbortSignal,
  ): Promise<LockedJob | null> {
    const untilMs = this.#nowMs() + waitMs;
    while (!stopped.aborted) {
      const taken = this.#takeWaiting(token, worker);
      if (taken !== null || this.#nowMs() >= untilMs) return taken;
      // A job may have come, the time is over, or the consumer has stopped.
      const wait = new AbortController();
      const end = (): void => wait.abort(OVER);
      stopped.addEventListener('abort', end, { once: true });
      this.#waits.add(wait);
      await this.#clock.sleep(untilMs - this.#nowMs(), wait.signal);
      this.#waits.delete(wait);
      stopped.removeEventListener('abort', end);
    }
    return null;
  }

  #takeWaiting(token: string, worker: string): LockedJob | null {
    for (;;) {
      const jobId = this.#state.waiting.shift();
      const job = jobId === undefined ? undefined : this.#state.jobs.get(jobId);
      if (jobId === undefined || job === undefined) return null;
      const lock = { token, endMs: this.#nowMs() + LOCK_DURATION_MS };
      Object.assign(job, { state: 'active', lock, worker });
      if (!job.hasLostWorker)
        return { lock: { jobId, token }, data: JSON.parse(job.data) as unknown };
      this.#end({ jobId, token }, { kind: 'failed', failure: WORKER_LOST });
    }
  }

  #end({ jobId, token }: JobLock, outcome: EndedOutcome): void {
    const job = this.#state.jobs.get(jobId);
    if (job?.lock?.token !== token || job.lock.endMs <= this.#nowMs())
      throw new Error(`Missing lock for job ${jobId}`);
    if (outcome.kind === 'handed-back') {
      this.#putBack(job, jobId);
      return;
    }
    job.outcome =
      outcome.kind === 'completed'
        ? JSON.stringify(outcome.result)
        : formatJobFailure(outcome.failure);
    Object.assign(job, { state: outcome.kind, lock: null, isSuspect: false });
    const { finished, jobs } = this.#state;
    finished.push(jobId);
    for (const oldest of finished.splice(0, finished.length - FINISHED_COUNT_MAX))
      jobs.delete(oldest);
    const record = this.#recordOf(jobId);
    const told = record.state === 'completed' ? { ...record, worker: '' } : undefined;
    for (const listener of this.#listeners) listener(jobId, told);
  }

  #putBack(job: StoredJob, jobId: string): void {
    Object.assign(job, { state: 'waiting', lock: null, isSuspect: false });
    this.#state.waiting.unshift(jobId);
    this.#endWaits();
  }

  #endWaits(): void {
    for (const wait of this.#waits) wait.abort(OVER);
  }

  /**
   * Puts jobs back that had no lock at this check and were suspect since the one before. At most
   * once per interval, however many producers ask.
   */
  async #checkForStalledJobs(closed: AbortSignal): Promise<void> {
    while (!closed.aborted) {
      const nowMs = this.#nowMs();
      if (nowMs - this.#state.checkedMs >= STALLED_INTERVAL_MS) this.#putStalledBack(nowMs);
      await this.#clock.sleep(STALLED_INTERVAL_MS, closed);
    }
  }

  #putStalledBack(nowMs: number): void {
    this.#state.checkedMs = nowMs;
    for (const [jobId, job] of this.#state.jobs) {
      if (job.state !== 'active') continue;
      const hasLock = job.lock !== null && job.lock.endMs > nowMs;
      if (job.isSuspect && !hasLock) {
        job.hasLostWorker = true;
        this.#putBack(job, jobId);
      } else job.isSuspect = true;
    }
  }
}

type EndedOutcome = Exclude<JobOutcome, { kind: 'lost' }>;

/** The commands of one worker. They may fail or be late, so a simulation can put a network behind them. */
export type ConsumerCommands = ReturnType<MemoryJobQueue['enter']>;

/** The worker's end of the queue: takes jobs, has them processed, and keeps their locks, as BullMQ does on Redis. */
export class CommandConsumer implements JobConsumer {
  readonly server: string;
  readonly name: string;
  readonly beat: JobConsumer['beat'];
  readonly quarantinedMs: JobConsumer['quarantinedMs'];
  readonly blobs: JobConsumer['blobs'];
  readonly #commands: ConsumerCommands;
  readonly #clock: Clock;
  readonly #options: Pick<OpenConsumerOptions, 'nonce' | 'process' | 'onError'>;
  readonly #stopped = new AbortController();
  readonly #closed = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #wanted: TakeTerms | null = null;
  #isTaking = false;
  #takenCount = 0;
  #wait = new AbortController();

  constructor(
    commands: ConsumerCommands,
    clock: Clock,
    options: Pick<OpenConsumerOptions, 'nonce' | 'process' | 'onError'>,
  ) {
    const { server, name, beat, quarantinedMs, blobs } = commands;
    [this.server, this.name] = [server, name];
    [this.beat, this.quarantinedMs, this.blobs] = [beat, quarantinedMs, blobs];
    this.#commands = commands;
    this.#clock = clock;
    this.#options = options;
  }

  takeOne(how: TakeTerms): void {
    if (this.#wanted?.waits === true || this.#stopped.signal.aborted) return;
    this.#wanted = how;
    if (!this.#isTaking) void this.#take();
  }

  pause(): void {
    this.#wanted = null;
    this.#wait.abort(OVER);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.pause();
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  async close(): Promise<void> {
    this.#stopped.abort();
    this.#closed.abort();
    this.pause();
    await this.#commands.leave();
  }

  async #take(): Promise<void> {
    this.#isTaking = true;
    while (this.#wanted !== null && this.#underWay.size < this.#wanted.heldMax) {
      const wanted = this.#wanted;
      this.#takenCount += 1;
      const token = `${this.#options.nonce}:${this.#takenCount}`;
      this.#wait = new AbortController();
      try {
        const waitMs = wanted.waits ? TAKE_WAIT_MS_MAX : 0;
        const taken = await this.#commands.take(token, waitMs, this.#wait.signal);
        if (taken !== null) this.#begin(taken);
        else if (this.#wanted === wanted && !wanted.waits) this.#wanted = null;
      } catch (error) {
        this.#report(error);
        await this.#clock.sleep(RETRY_DELAY_MS, this.#stopped.signal);
      }
    }
    this.#isTaking = false;
  }

  #begin(taken: LockedJob): void {
    this.#wanted = null;
    const processing = this.#processed(taken).finally(() => {
      this.#underWay.delete(processing);
      if (!this.#isTaking) void this.#take();
    });
    this.#underWay.add(processing);
  }

  async #processed({ lock, data }: LockedJob): Promise<void> {
    const [lost, ended] = [new AbortController(), new AbortController()];
    void this.#renew(lock, lost, ended.signal);
    const outcome = await this.#options.process({ jobId: lock.jobId, data }, lost.signal);
    ended.abort(OVER);
    if (outcome.kind === 'lost' || this.#closed.signal.aborted) return;
    // A lock that was lost ends, and the job is delivered again.
    await this.#commands.end(lock, outcome).catch((error: unknown) => {
      this.#report(error);
    });
  }

  async #renew(lock: JobLock, lost: AbortController, ended: AbortSignal): Promise<void> {
    const isOver = (): boolean => ended.aborted || this.#closed.signal.aborted;
    for (;;) {
      await this.#clock.sleep(LOCK_RENEWAL_INTERVAL_MS, ended);
      if (isOver()) return;
      try {
        if (await this.#commands.extend(lock)) continue;
      } catch (error) {
        this.#report(error);
        continue;
      }
      if (isOver()) return;
      this.#report(new Error(`could not renew lock for job ${lock.jobId}`));
      lost.abort();
      return;
    }
  }

  #report(error: unknown): void {
    if (this.#closed.signal.aborted) return;
    this.#options.onError(error instanceof Error ? error : new Error(String(error)));
  }
}

export class MemoryBlobStore extends ObjectBlobStore {
  constructor() {
    super(new MemoryObjectStore());
  }
}
