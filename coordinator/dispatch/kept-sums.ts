/**
 * The sums of one step that stay in the store until the join that adds them has ended. Whether they are used up is
 * decided here; blobs are put by workers and deleted by the step.
 */

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
  readonly #leases: Pick<BlobLeases, 'leaseRef' | 'releaseRef'>;
  /** Joins that were not sent yet. */
  readonly #waiting: Set<JobOrder>;
  readonly #keptByJobIndex = new Map<number, KeptSum>();
  readonly #reopened = new Set<number>();

  constructor(
    orders: readonly JobOrder[],
    { leases }: { readonly leases: Pick<BlobLeases, 'leaseRef' | 'releaseRef'> },
  ) {
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
  isComplete({ parts = [] }: Pick<JobOrder, 'parts'>): boolean {
    return parts.every(({ jobIndex }) => this.#keptByJobIndex.has(jobIndex));
  }

  /** @returns null when the join has ended, undefined while nothing was kept */
  blobOf(jobIndex: number): BlobRef | null | undefined {
    return this.#keptByJobIndex.get(jobIndex)?.blob;
  }

  storedBlob(jobIndex: number): BlobRef {
    const blob = this.blobOf(jobIndex);
    if (blob === undefined || blob === null)
      throw new Error(`the sums of job ${jobIndex} are not in the store`);
    return blob;
  }

  /** Forgets sums that were lost. Returns their delivery, which computes them again. */
  reopen(jobIndex: number): JobDelivery {
    const kept = this.#keptByJobIndex.get(jobIndex);
    if (kept === undefined) throw new Error(`the sums of job ${jobIndex} were not kept`);
    if (kept.blob !== null) this.#leases.releaseRef(kept.blob);
    this.#keptByJobIndex.delete(jobIndex);
    this.#reopened.add(jobIndex);
    return kept.delivery;
  }

  /** Whether the job has given its result before its sums were lost. */
  wasReopened(jobIndex: number): boolean {
    return this.#reopened.has(jobIndex);
  }

  /** Returns the sums that only this join needed; the caller deletes them. */
  release({ parts = [] }: Pick<JobOrder, 'parts'>): BlobRef[] {
    return parts.flatMap(({ jobIndex }) => {
      const kept = this.#keptByJobIndex.get(jobIndex);
      if (kept === undefined || kept.blob === null) return [];
      this.#keptByJobIndex.set(jobIndex, { ...kept, blob: null });
      return this.#leases.releaseRef(kept.blob);
    });
  }

  releaseAll(): BlobRef[] {
    const parts = [...this.#keptByJobIndex.keys()].map((jobIndex) => {
      return { jobIndex, first: 0, end: 0 };
    });
    return this.release({ parts });
  }
}
