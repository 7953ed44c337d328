/** The state of a queue, for people who look at it: workers, backlog, and the runs whose jobs it has had lately. */

import type { Job, Queue } from 'bullmq';
import { z } from 'zod';
import type { Clock } from '../../shared/base/clock.js';
import type { QueueController, ConnectedWorker } from '../../shared/queue/job-queue.js';
import type { LeaseHolder } from '../../shared/storage/lease.js';

interface QueueState {
  readonly counts: { readonly waiting: number; readonly active: number };
  /** In the order of their names. */
  readonly workers: readonly WatchedWorker[];
  readonly runs: readonly QueuedRun[];
  /** Epoch milliseconds at which the oldest job was sent; null without jobs. */
  readonly oldestJobMs: number | null;
}

interface WatchedWorker extends ConnectedWorker {
  /** The time at which it was first seen with its job; null when it waits. */
  readonly jobSinceMs: number | null;
}

interface QueuedRun {
  readonly run: string;
  readonly holder: LeaseHolder;
  /** The most jobs that were seen of one outer step; null as long as none was. */
  readonly jobsPerOuterStep: number | null;
}

/** Jobs that are looked at for the names of runs, of each end of the queue. */
const JOBS_READ_MAX = 32;
const RUNS_REMEMBERED_MAX = 256;

/** Fields of other versions do not matter here. */
const QueuedSchema = z.object({
  runId: z.string(),
  jobIndex: z.int().nonnegative().optional(),
});

export class QueueWatch {
  readonly #queue: Queue;
  readonly #controller: QueueController;
  readonly #clock: Clock;
  readonly #jobCountByRun = new Map<string, number>();
  #jobSinceMs = new Map<string, number>();

  constructor(queue: Queue, controller: QueueController, clock: Clock) {
    this.#queue = queue;
    this.#controller = controller;
    this.#clock = clock;
  }

  async state(): Promise<QueueState> {
    const [workers, counts, jobs] = await Promise.all([
      this.#controller.workers(),
      this.#queue.getJobCounts('wait', 'active', 'prioritized'),
      this.#queue.getJobs(['active', 'wait'], 0, JOBS_READ_MAX, true),
    ]);
    // A job that ended between two reads is absent, which the types of BullMQ do not say.
    const found = (jobs as readonly (Job | undefined)[]).filter((job) => job !== undefined);
    for (const { data } of found) this.#remember(data);
    const sent = found.map(({ timestamp }) => timestamp);
    return {
      counts: {
        waiting: (counts['wait'] ?? 0) + (counts['prioritized'] ?? 0),
        active: counts['active'] ?? 0,
      },
      workers: this.#watched(workers),
      runs: await this.#runs(),
      oldestJobMs: sent.length === 0 ? null : Math.min(...sent),
    };
  }

  #remember(data: unknown): void {
    const parsed = QueuedSchema.safeParse(data);
    if (!parsed.success) return;
    const { runId, jobIndex = 0 } = parsed.data;
    const jobCount = jobIndex + 1;
    const known = this.#jobCountByRun.get(runId) ?? 0;
    if (known === 0 && this.#jobCountByRun.size >= RUNS_REMEMBERED_MAX) return;
    this.#jobCountByRun.set(runId, Math.max(known, jobCount));
  }

  async #runs(): Promise<QueuedRun[]> {
    const runs: QueuedRun[] = [];
    for (const [run, jobCount] of [...this.#jobCountByRun].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const holder = await this.#controller.find(run);
      if (holder === null) this.#jobCountByRun.delete(run);
      else runs.push({ run, holder, jobsPerOuterStep: jobCount });
    }
    return runs;
  }

  #watched(workers: readonly ConnectedWorker[]): WatchedWorker[] {
    const nowMs = this.#clock.epochMs();
    const since = new Map<string, number>();
    const watched = workers.map((worker): WatchedWorker => {
      if (worker.jobId === null) return { ...worker, jobSinceMs: null };
      const key = `${worker.name} ${worker.jobId}`;
      const jobSinceMs = this.#jobSinceMs.get(key) ?? nowMs;
      since.set(key, jobSinceMs);
      return { ...worker, jobSinceMs };
    });
    this.#jobSinceMs = since;
    return watched.sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}
