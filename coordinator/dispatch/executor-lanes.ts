/**
 * Several executors that share the jobs of a run. A job goes to the first one that is free, in the order in which
 * jobs come, and an executor that computes has the inputs of its next job in advance. They become more while jobs are
 * computed, if the jobs take long enough.
 */

import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { taskCountOf } from '../../shared/queue/protocol.js';
import type { JobOrder } from './dispatcher.js';

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

export class ExecutorLanes {
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

export class GrowingLanes {
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
export class ComputePace {
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
