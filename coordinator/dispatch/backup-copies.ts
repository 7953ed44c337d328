/**
 * Sends copies of stragglers: a job that its worker has had for long goes to an idle worker as well, and the
 * first result counts. Both have the same bits, so a copy changes no result.
 */

import { at } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ConnectedWorker } from '../../shared/queue/job-queue.js';
import {
  EXCLUDED_WORKERS_MAX,
  type Job,
  type JobResult,
  leafCountOf,
} from '../../shared/queue/protocol.js';
import type { DeliveryTerms } from './dispatcher.js';
import type { JobDelivery, ReadJob } from './job-delivery.js';
import type { WorkerHealth } from './worker-health.js';

const DURATION_COUNT_MAX = 256;
/** With fewer, no job counts as a straggler. */
const DURATION_COUNT_MIN = 4;
const DURATION_QUANTILE = 0.9;
/** The time that a job may take whatever is usual: fetching inputs is not part of the computing time. */
const STRAGGLER_AGE_MS_MIN = 1_000;
/** The number of copies of one job. It bounds what a worker costs that fails all its jobs at once. */
const COPY_COUNT_MAX = 3;

type JobKind = Job['work']['kind'];

/** The computing times of leaves that a dispatcher remembers across outer steps: deliveries have several, and not alike. */
export class JobDurations {
  readonly #byKind = new Map<JobKind, { readonly latest: number[]; count: number }>();

  note(job: Pick<Job, 'work'>, { computeMs }: Pick<JobResult, 'computeMs'>): void {
    const { work } = job;
    const known = this.#byKind.get(work.kind) ?? { latest: [], count: 0 };
    known.latest[known.count % DURATION_COUNT_MAX] = computeMs / leafCountOf(job);
    known.count += 1;
    this.#byKind.set(work.kind, known);
  }

  /** The quantile, or infinity as long as too few durations are known. */
  usualMs(job: Pick<Job, 'work'>): number {
    const latest = this.#byKind.get(job.work.kind)?.latest ?? [];
    if (latest.length < DURATION_COUNT_MIN) return Number.POSITIVE_INFINITY;
    const ascending = Float64Array.from(latest).sort();
    const perLeafMs = at(ascending, Math.ceil((ascending.length - 1) * DURATION_QUANTILE));
    return perLeafMs * leafCountOf(job);
  }
}

interface BackupCopiesOptions {
  readonly limits: Pick<QueueConfig, 'backupAfterMultiple'>;
  readonly durations: JobDurations;
  readonly health: WorkerHealth;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

interface CopyTerms {
  readonly workers: () => Promise<readonly ConnectedWorker[]>;
  readonly termsOf: (delivery: JobDelivery) => DeliveryTerms;
  /** Whether the job is not on the queue, because its next delivery is not due. */
  readonly isHeldBack: (delivery: JobDelivery) => boolean;
}

interface Hold {
  readonly worker: string;
  /** When the worker was first seen to have it. */
  readonly sinceMs: number;
}

export class BackupCopies {
  readonly #options: BackupCopiesOptions;
  readonly #openByJobId: Map<string, JobDelivery>;
  readonly #holdByJobId = new Map<string, Hold>();
  readonly #copyCounts = new Map<JobDelivery, number>();
  /** Ids of deliveries whose result another one has made superfluous. */
  readonly #superfluousIds: string[] = [];
  #isNews = false;

  constructor(options: BackupCopiesOptions, openByJobId: Map<string, JobDelivery>) {
    this.#options = options;
    this.#openByJobId = openByJobId;
  }

  /** The jobs that may still be on the queue although nobody waits for them. */
  get superfluousIds(): readonly string[] {
    return this.#superfluousIds;
  }

  /**
   * Begins copies of stragglers, at most one for each idle worker, and returns them to be sent. While a job of
   * the step waits on the queue, no worker counts as idle.
   */
  async begin({ workers, termsOf, isHeldBack }: CopyTerms): Promise<{ jobId: string; job: Job }[]> {
    if (this.#options.limits.backupAfterMultiple === undefined || !this.#isNews) return [];
    this.#isNews = false;
    const stragglers = this.#stragglers(isHeldBack);
    if (stragglers.length === 0) return [];
    const idleCount = this.#idleCount(await workers());
    const nowMs = this.#options.clock.monotonicMs();
    return stragglers.slice(0, idleCount).map(([delivery, { worker, sinceMs }]) => {
      const { fingerprint, notBy } = termsOf(delivery);
      const excluded = [...new Set([worker, ...notBy])].slice(0, EXCLUDED_WORKERS_MAX);
      const copy = this.#begun(delivery, { fingerprint, notBy: excluded }, nowMs);
      const { outerStep, jobIndex } = delivery.job;
      const heldMs = nowMs - sinceMs;
      this.#options.sink({ kind: 'job-copied', outerStep, jobIndex, slowWorker: worker, heldMs });
      return copy;
    });
  }

  /**
   * Whether what was read is to be judged as the present delivery of its job, which it then is. So a copy costs an attempt when
   * it fails, like any delivery.
   */
  decides({ jobId, delivery, fate }: ReadJob): boolean {
    // Another delivery of the job was judged since this one was read.
    if (this.#openByJobId.get(jobId) !== delivery) return false;
    if (fate.kind === 'open') {
      const { holder: worker } = fate;
      this.#isNews = true;
      if (worker !== null && this.holderOf(jobId) !== worker)
        this.#holdByJobId.set(jobId, { worker, sinceMs: this.#options.clock.monotonicMs() });
      return false;
    }
    if (jobId !== delivery.jobId) delivery.swapCopy();
    return true;
  }

  /** The worker that was seen to have the delivery last; null if none was seen. */
  holderOf(jobId: string): string | null {
    return this.#holdByJobId.get(jobId)?.worker ?? null;
  }

  /** The job has ended, so its other delivery is superfluous. */
  end(delivery: JobDelivery): void {
    const { copyId } = delivery;
    if (copyId === null) return;
    this.#openByJobId.delete(copyId);
    this.#superfluousIds.push(copyId);
    delivery.dropCopy();
  }

  #begun(
    delivery: JobDelivery,
    terms: DeliveryTerms,
    nowMs: number,
  ): { readonly jobId: string; readonly job: Job } {
    const copy = delivery.beginCopy(terms, nowMs);
    this.#openByJobId.set(copy.jobId, delivery);
    this.#copyCounts.set(delivery, (this.#copyCounts.get(delivery) ?? 0) + 1);
    return copy;
  }

  /** The jobs that their worker has had for longest come first. */
  #stragglers(isHeldBack: CopyTerms['isHeldBack']): [JobDelivery, Hold][] {
    const { limits, durations, clock } = this.#options;
    const { backupAfterMultiple: multiple = Number.POSITIVE_INFINITY } = limits;
    const found: [JobDelivery, Hold][] = [];
    for (const [jobId, delivery] of this.#openByJobId) {
      if (isHeldBack(delivery)) continue;
      const hold = this.#holdByJobId.get(jobId);
      if (hold === undefined) return [];
      if (delivery.copyId !== null) continue;
      if ((this.#copyCounts.get(delivery) ?? 0) >= COPY_COUNT_MAX) continue;
      const afterMs = Math.max(STRAGGLER_AGE_MS_MIN, multiple * durations.usualMs(delivery.job));
      if (clock.monotonicMs() - hold.sinceMs >= afterMs) found.push([delivery, hold]);
    }
    return found.sort(([, one], [, other]) => one.sinceMs - other.sinceMs);
  }

  #idleCount(workers: readonly ConnectedWorker[]): number {
    const openIds = [...this.#openByJobId.keys()];
    const holders = new Set(openIds.map((jobId) => this.#holdByJobId.get(jobId)?.worker));
    return workers.filter(
      ({ name, jobId }) =>
        jobId === null && !holders.has(name) && this.#options.health.hasHealthyOther([], [name]),
    ).length;
  }
}
