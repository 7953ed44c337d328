/** The sums of one step that stay in the store until the join that adds them has ended. Workers put them, the step deletes them. */

import type { BlobRef } from '../../shared/storage/blob-store.js';
import type { JobOrder } from './dispatcher.js';
import type { JobDelivery } from './job-delivery.js';
import type { BlobLeases } from './step-blobs.js';

interface KeptSum {
  readonly delivery: JobDelivery;
  /** Null when its join has ended. */
  readonly blob: BlobRef | null;
}

export class KeptSums {
  readonly #leases: BlobLeases;
  /** Joins that are not sent before their parts have ended. */
  readonly #waiting: Set<JobOrder>;
  readonly #keptByJobIndex = new Map<number, KeptSum>();
  /** The jobs that have given a result before their sums were lost, by index. */
  readonly reopened = new Map<number, JobDelivery>();

  constructor(orders: readonly JobOrder[], leases: BlobLeases) {
    this.#leases = leases;
    this.#waiting = new Set(orders.filter(({ parts }) => parts !== undefined));
  }

  /** Keeps the sums of a delivery that has ended. Returns the joins that were waiting for them alone. */
  keep(delivery: JobDelivery, blob: BlobRef): JobOrder[] {
    this.#leases.leaseRef(blob);
    this.#keptByJobIndex.set(delivery.job.jobIndex, { delivery, blob });
    const complete = [...this.#waiting].filter((order) => this.isComplete(order));
    for (const order of complete) this.#waiting.delete(order);
    return complete;
  }

  /** Whether all sums that the order adds are in the store, as far as is known. */
  isComplete({ parts = [] }: JobOrder): boolean {
    return parts.every(({ jobIndex }) => this.#keptByJobIndex.has(jobIndex));
  }

  get(jobIndex: number): KeptSum | undefined {
    return this.#keptByJobIndex.get(jobIndex);
  }

  /** Forgets sums that were lost, so that their job computes them again. */
  reopen(jobIndex: number): void {
    const { delivery, blob = null } = this.get(jobIndex) ?? {};
    if (blob !== null) this.#leases.releaseRef(blob);
    this.#keptByJobIndex.delete(jobIndex);
    if (delivery !== undefined) this.reopened.set(jobIndex, delivery);
  }

  /** Whether the order waits for sums that it adds. `keep` returns it once they are there. */
  mustWait(order: JobOrder): boolean {
    if (this.isComplete(order)) return false;
    this.#waiting.add(order);
    return true;
  }

  /** Returns the sums of these jobs, or all, that nobody else needs; the caller deletes them. */
  release(jobIndices: Iterable<number> = this.#keptByJobIndex.keys()): BlobRef[] {
    return [...jobIndices].flatMap((jobIndex) => {
      const { delivery, blob = null } = this.get(jobIndex) ?? {};
      if (delivery === undefined || blob === null) return [];
      this.#keptByJobIndex.set(jobIndex, { delivery, blob: null });
      return this.#leases.releaseRef(blob);
    });
  }
}
