/**
 * Takes jobs from the queue, one by one or several in a parcel, keeps their locks, and finishes them or hands them back. It
 * takes a job ahead only when no other worker would go without. The timing is here; the queue
 * itself is a `JobConsumer`.
 */

import { setMaxListeners } from 'node:events';
import type { Clock } from '../../shared/base/clock.js';
import { formatJobFailure, type JobFailure } from '../../shared/queue/job-failure.js';
import type { JobConsumer, TakenJob } from '../../shared/queue/job-queue.js';
import { unpackedJobs, type ParcelOutcome } from '../../shared/queue/job-parcel.js';
import type { JobResult } from '../../shared/queue/protocol.js';
import { mayPass } from '../../shared/queue/queue-errors.js';
import { LOCK_RENEWAL_INTERVAL_MS } from '../../shared/queue/timing.js';

/** The pause before a server that was away is asked again. */
const RETRY_DELAY_MS = 500;
/**
 * The waiting jobs for each worker that are plenty. With fewer, the job under way may take as long as all others, and one
 * that was taken ahead would wait for it while other workers are idle.
 */
const PLENTY_PER_WORKER = 4;
/** As many are plenty in any case, if there is one for every worker: no single job takes as long as all of them. */
const PLENTY_IN_ALL = 64;
/**
 * The part of its share of the waiting jobs that a worker takes ahead without another look: others may have begun to
 * take theirs.
 */
const PLENTY_SHARE = 1 / PLENTY_PER_WORKER;
/** A queue that has little will not have plenty at once, and a look costs a command. With 100 ms, 1,000 workers are idle for a tenth more. */
const LOOK_INTERVAL_MS = 20;
/** How late a worker that does jobs may learn that it is quarantined. */
const QUARANTINE_AGE_MS_MAX = 2_000;

/** A job that is this worker's as long as its lock holds. */
export interface HeldJob {
  readonly jobId: string;
  readonly data: unknown;
  /** Set if the worker must refuse the job, with the reason. */
  readonly refusal?: string;
  /** The end of the job's own queue, where the intake takes from several. */
  readonly origin?: TakenJob['origin'];
  readonly traced?: TakenJob['traced'];
  /** Whether it came with others, which is the case where jobs are small. */
  readonly isOfParcel: boolean;
  /** Aborts when the lock is lost: the job belongs to another worker, or is gone. */
  readonly lost: AbortSignal;
  complete(result: JobResult): Promise<void>;
  fail(failure: JobFailure): Promise<void>;
  /** With it go back those of its parcel that have not been returned by `next` or `nextAhead`. */
  handBack(): Promise<void>;
}

interface QueueIntakeOptions {
  /** Belongs to the caller, who closes it. */
  readonly consumer: JobConsumer;
  readonly clock: Clock;
  readonly onError: (error: Error) => void;
}

/** One holding of an entry of the queue; the same one may be taken again after its lock was lost. */
interface Holding {
  readonly taken: TakenJob;
  readonly lost: AbortController;
}

export class QueueIntake {
  readonly #consumer: JobConsumer;
  readonly #clock: Clock;
  readonly #onError: (error: Error) => void;
  readonly #holdingByJobId = new Map<string, Holding>();
  readonly #closing = new AbortController();
  #workers = { count: 1, countedMs: Number.NEGATIVE_INFINITY };
  #quarantine = { endMs: Number.NEGATIVE_INFINITY, askedMs: Number.NEGATIVE_INFINITY };
  /** The jobs that this worker may still take of the plenty that it saw, before it looks again. */
  #plentyLeftCount = 0;
  /** The time at which a worker that saw no plenty looks again. */
  #looksAgainAtMs = Number.NEGATIVE_INFINITY;
  /** The wait under way, whose jobs have not been returned yet. */
  #taking: Promise<readonly HeldJob[]> = Promise.resolve([]);
  /** The jobs of the latest parcel that have not been returned. */
  #waiting: HeldJob[] = [];

  constructor({ consumer, clock, onError }: QueueIntakeOptions) {
    this.#consumer = consumer;
    this.#clock = clock;
    this.#onError = onError;
    void this.#keepAlive();
  }

  /**
   * Waits for a job. Returns null when none came for a while, or when the intake closes meanwhile.
   */
  async next(): Promise<HeldJob | null> {
    const closing = this.#closing.signal;
    if (closing.aborted) return null;
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) return waiting;
    this.#taking = this.#take({ wait: true });
    let onClosing = (): void => undefined;
    const closed = new Promise<null>((resolve) => {
      onClosing = () => resolve(null);
      closing.addEventListener('abort', onClosing, { once: true });
    });
    try {
      const held = await Promise.race([this.#taking, closed]);
      if (held === null) return null;
      this.#taking = Promise.resolve([]);
      return this.#firstOf(held);
    } finally {
      closing.removeEventListener('abort', onClosing);
    }
  }

  /**
   * Takes a job to hold while another is computed.
   *
   * @param onlyOfPlenty takes none unless the queue has several for every worker.
   */
  async nextAhead(options: { readonly onlyOfPlenty: boolean }): Promise<HeldJob | null> {
    if (this.#closing.signal.aborted || (await this.quarantinedMs(false)) > 0) return null;
    // Nobody else can have it.
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) return waiting;
    if (this.#plentyLeftCount > 0) {
      this.#plentyLeftCount -= 1;
      const held = this.#firstOf(await this.#take({ wait: false }));
      if (held === null) this.#plentyLeftCount = 0;
      return held;
    }
    if (options.onlyOfPlenty && !(await this.#seesPlenty())) return null;
    return this.#firstOf(await this.#take({ wait: false }));
  }

  /** The jobs that this worker has and has not begun. The next ones to be returned come first. */
  get waiting(): readonly HeldJob[] {
    return this.#waiting;
  }

  /** Leaves the jobs that wait here to others. */
  async handBackWaiting(): Promise<void> {
    const [first] = this.#waiting;
    await first?.handBack();
  }

  /** Returns whether a job that was taken ahead keeps another worker waiting. */
  async isQueueEmptyForOthers(): Promise<boolean> {
    const isEmpty = await this.#answered(
      async () => (await this.#consumer.waitingCount()) === 0 && (await this.#workerCount()) > 1,
    );
    return isEmpty === true;
  }

  /**
   * How much longer a coordinator wants this worker to take no job.
   *
   * @param isDoubtful asks the server, rather than trust an answer that is a little old.
   */
  async quarantinedMs(isDoubtful: boolean): Promise<number> {
    const nowMs = this.#clock.monotonicMs();
    const isOld = nowMs - this.#quarantine.askedMs > QUARANTINE_AGE_MS_MAX;
    if ((isDoubtful || isOld) && !this.#closing.signal.aborted) {
      const leftMs = (await this.#answered(() => this.#consumer.quarantinedMs())) ?? 0;
      const askedMs = this.#clock.monotonicMs();
      this.#quarantine = { endMs: askedMs + leftMs, askedMs };
    }
    return Math.max(0, this.#quarantine.endMs - this.#clock.monotonicMs());
  }

  /** Ends waiting for jobs; held jobs can still be finished or handed back. */
  stopTaking(): void {
    this.#closing.abort();
  }

  async close(): Promise<void> {
    this.stopTaking();
    // Ends a wait under way, which may have brought a job in its last moment.
    await this.#consumer.stopWaiting();
    for (const late of await this.#taking) await late.handBack();
    await this.handBackWaiting();
  }

  async #seesPlenty(): Promise<boolean> {
    if (this.#clock.monotonicMs() < this.#looksAgainAtMs) return false;
    const isPlenty = await this.#answered(async () => {
      const waitingCount = await this.#consumer.waitingCount();
      const workerCount = await this.#workerCount();
      this.#plentyLeftCount = plentyLeftCount(waitingCount, workerCount);
      return waitingCount >= plentyCount(workerCount);
    });
    if (isPlenty !== true) this.#looksAgainAtMs = this.#clock.monotonicMs() + LOOK_INTERVAL_MS;
    return isPlenty === true;
  }

  #firstOf(taken: readonly HeldJob[]): HeldJob | null {
    const [first = null, ...others] = taken;
    this.#waiting = others;
    return first;
  }

  /** The jobs of the entry that has waited longest; none if there is none. */
  async #take(options: { readonly wait: boolean }): Promise<readonly HeldJob[]> {
    try {
      const taken = await this.#consumer.take(options);
      return taken === null ? [] : this.#held(taken);
    } catch (error) {
      if (this.#closing.signal.aborted) return [];
      this.#report(error);
      await this.#clock.sleep(RETRY_DELAY_MS, this.#closing.signal);
      return [];
    }
  }

  #held(taken: TakenJob): readonly HeldJob[] {
    const { jobId, data, refusal, origin, traced } = taken;
    const earlier = this.#holdingByJobId.get(jobId);
    if (earlier !== undefined) this.#lose(earlier);
    const lost = new AbortController();
    const holding = { taken, lost };
    this.#holdingByJobId.set(jobId, holding);
    const common = {
      lost: lost.signal,
      ...(refusal === undefined ? {} : { refusal }),
      ...(origin === undefined ? {} : { origin }),
      ...(traced === undefined ? {} : { traced }),
    };
    const settle = (move: () => Promise<void>): Promise<void> => this.#settled(holding, move);
    const unpacked = refusal === undefined ? unpackedJobs(data) : null;
    if (unpacked !== null) {
      // All jobs of a parcel listen.
      setMaxListeners(Number.POSITIVE_INFINITY, lost.signal);
      return this.#parcelOf(unpacked, common, (end) => settle(() => end(taken)));
    }
    const single: HeldJob = {
      ...{ ...common, jobId, data, isOfParcel: false },
      complete: (result) => settle(() => taken.complete(result)),
      fail: (failure) => settle(() => taken.fail(failure)),
      handBack: () => settle(() => taken.handBack()),
    };
    return [single];
  }

  /** The jobs of a parcel, which ends on the queue with the last of them. */
  #parcelOf(
    unpacked: readonly { readonly jobId: string; readonly data: unknown }[],
    common: Pick<HeldJob, 'lost' | 'refusal' | 'origin' | 'traced'>,
    settle: (end: (taken: TakenJob) => Promise<void>) => Promise<void>,
  ): readonly HeldJob[] {
    const outcomes: ParcelOutcome[] = [];
    const ended = async (outcome: ParcelOutcome): Promise<void> => {
      outcomes.push(outcome);
      if (outcomes.length < unpacked.length) return;
      const isUntouched = outcomes.every((each) => 'isHandedBack' in each);
      await settle((taken) => (isUntouched ? taken.handBack() : taken.complete({ outcomes })));
    };
    const parcel = unpacked.map(({ jobId, data }): HeldJob => ({
      ...{ ...common, jobId, data, isOfParcel: true },
      complete: (result) => ended({ jobId, result }),
      fail: (failure) => ended({ jobId, failure: formatJobFailure(failure) }),
      handBack: async () => {
        const behind = this.#waiting.filter(
          (each) => parcel.includes(each) && each.jobId !== jobId,
        );
        this.#waiting = this.#waiting.filter((each) => !parcel.includes(each));
        for (const each of behind) await ended({ jobId: each.jobId, isHandedBack: true });
        await ended({ jobId, isHandedBack: true });
      },
    }));
    return parcel;
  }

  async #settled(holding: Holding, move: () => Promise<void>): Promise<void> {
    const { jobId } = holding.taken;
    // This worker may have taken the job again.
    if (this.#holdingByJobId.get(jobId) === holding) this.#holdingByJobId.delete(jobId);
    // A job that lost its lock is not ours to move.
    if (!holding.lost.signal.aborted) await this.#moved(holding, move);
  }

  /**
   * Moves a job as soon as the server answers and accepts it, and keeps its lock until then. Another
   * error leaves the job to the end of its lock.
   */
  async #moved(holding: Holding, move: () => Promise<void>): Promise<void> {
    const { jobId } = holding.taken;
    for (;;) {
      try {
        await move();
        return;
      } catch (error) {
        this.#report(error);
        if (!mayPass(error) || this.#closing.signal.aborted) return;
      }
      if (!this.#holdingByJobId.has(jobId)) this.#holdingByJobId.set(jobId, holding);
      await this.#clock.sleep(RETRY_DELAY_MS, this.#closing.signal);
      if (this.#holdingByJobId.get(jobId) === holding) this.#holdingByJobId.delete(jobId);
      if (holding.lost.signal.aborted) return;
    }
  }

  /** Says at intervals that this worker lives, and renews the locks of its jobs. */
  async #keepAlive(): Promise<void> {
    for (;;) {
      await this.#clock.sleep(LOCK_RENEWAL_INTERVAL_MS, this.#closing.signal);
      if (this.#closing.signal.aborted) return;
      await Promise.all([this.#answered(() => this.#beat()), this.#renewLocks()]);
    }
  }

  async #beat(): Promise<void> {
    const [jobId = null] = this.#holdingByJobId.keys();
    const count = await this.#consumer.beat(jobId);
    // Whoever has come wants a share.
    if (count !== this.#workers.count) this.#plentyLeftCount = 0;
    this.#workers = { count, countedMs: this.#clock.monotonicMs() };
  }

  /** The count of the last beat. */
  async #workerCount(): Promise<number> {
    const ageMs = this.#clock.monotonicMs() - this.#workers.countedMs;
    if (ageMs > 2 * LOCK_RENEWAL_INTERVAL_MS) await this.#beat();
    return this.#workers.count;
  }

  async #renewLocks(): Promise<void> {
    const holdings = [...this.#holdingByJobId.values()];
    if (holdings.length === 0) return;
    const lost = await this.#answered(() =>
      this.#consumer.extendLocks(holdings.map(({ taken }) => taken)),
    );
    for (const holding of holdings) {
      // A job that was finished meanwhile has no lock either.
      const isHeld = this.#holdingByJobId.get(holding.taken.jobId) === holding;
      if (isHeld && lost?.includes(holding.taken) === true) this.#lose(holding);
    }
  }

  /** The holder may never settle the job, so its lock is forgotten here. */
  #lose({ taken: { jobId }, lost }: Holding): void {
    this.#holdingByJobId.delete(jobId);
    this.#waiting = this.#waiting.filter((held) => held.lost !== lost.signal);
    this.#report(new Error(`the lock of job ${jobId} is lost`));
    lost.abort();
  }

  /** Returns null and reports the error when the server does not answer. */
  async #answered<Answer>(ask: () => Promise<Answer>): Promise<Answer | null> {
    try {
      return await ask();
    } catch (error) {
      if (!this.#closing.signal.aborted) this.#report(error);
      return null;
    }
  }

  #report(error: unknown): void {
    this.#onError(error instanceof Error ? error : new Error(String(error)));
  }
}

/** The jobs behind the next one that may be taken without a look: all that wait, where nobody else wants them. */
function plentyLeftCount(waitingCount: number, workerCount: number): number {
  if (workerCount === 1) return Math.max(0, waitingCount - 1);
  return Math.floor((PLENTY_SHARE * waitingCount) / workerCount);
}

function plentyCount(workerCount: number): number {
  if (workerCount === 1) return 1;
  return Math.min(PLENTY_PER_WORKER * workerCount, Math.max(PLENTY_IN_ALL, workerCount));
}
