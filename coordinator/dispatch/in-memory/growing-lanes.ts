/** Executors of one machine that become more while jobs are computed, if the jobs take long enough. */

import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { taskCountOf } from '../../../shared/queue/protocol.js';
import type { JobOrder } from '../dispatcher.js';
import { ExecutorLanes } from './executor-lanes.js';
import { ComputePace } from './wanted-executors.js';

/** Starts executors in addition: as many as the machine has room for, up to `count`. */
export type StartMore = (count: number, signal: AbortSignal) => Promise<readonly JobExecutor[]>;

/** Lanes that become more while there is work for them. */
export class GrowingLanes {
  readonly lanes: ExecutorLanes;
  readonly #pace = new ComputePace();
  readonly #calls = new Set<{ readonly taskCount: number }>();
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
    const call = { taskCount: sum(orders.map(({ job }) => taskCountOf(job))) };
    this.#calls.add(call);
    return () => this.#calls.delete(call);
  }

  /** Adds executors if the jobs computed so far say that they pay off. */
  note({ job }: Pick<JobOrder, 'job'>, computeMs: number): void {
    this.#pace.note({ taskCount: taskCountOf(job), computeMs });
    if (this.#startMore === undefined || this.#isFull || this.#starting !== null) return;
    if (this.#closing.signal.aborted) return;
    const taskCount = sum([...this.#calls].map((call) => call.taskCount));
    const moreCount = this.#pace.wantedCount(taskCount) - this.lanes.count;
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

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
