/**
 * Counts results that are not used, and removes their outputs: those of jobs that their outer step was closed without,
 * and those that came after another worker's.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobProducer } from '../../shared/queue/job-queue.js';
import { JobResultSchema } from '../../shared/queue/protocol.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import type { JobDelivery } from './job-delivery.js';

/** More jobs than workers hold at once. Older ones are forgotten, and the lifetime of blobs removes their outputs. */
const AWAITED_COUNT_MAX = 4_096;

interface LateResultsOptions {
  readonly producer: Pick<JobProducer, 'read' | 'subscribe'>;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

export class LateResults {
  readonly #options: LateResultsOptions;
  readonly #awaited = new Map<
    string,
    { readonly outerStep: number; readonly jobIndex: number; readonly closedMs: number }
  >();
  readonly #unsubscribe: () => void;

  constructor(options: LateResultsOptions) {
    this.#options = options;
    this.#unsubscribe = options.producer.subscribe((jobId) => void this.#look(jobId));
  }

  /** @param deliveries those whose results are not waited for any more, by the id of the job on the queue */
  expect(deliveries: Iterable<readonly [jobId: string, delivery: JobDelivery]>): void {
    const closedMs = this.#options.clock.monotonicMs();
    // Their inputs are not kept: many jobs are taken by no worker.
    for (const [jobId, { job }] of deliveries) {
      const { outerStep, jobIndex } = job;
      this.#awaited.set(jobId, { outerStep, jobIndex, closedMs });
    }
    for (const jobId of this.#awaited.keys()) {
      if (this.#awaited.size <= AWAITED_COUNT_MAX) return;
      this.#awaited.delete(jobId);
    }
  }

  close(): void {
    this.#unsubscribe();
    this.#awaited.clear();
  }

  async #look(jobId: string): Promise<void> {
    const awaited = this.#awaited.get(jobId);
    if (awaited === undefined) return;
    this.#awaited.delete(jobId);
    const { producer, blobs, clock, sink } = this.#options;
    try {
      const record = await producer.read(jobId);
      if (record.state !== 'completed') return;
      const { outerStep, jobIndex } = awaited;
      const lateMs = clock.monotonicMs() - awaited.closedMs;
      sink({ kind: 'result-late', outerStep, jobIndex, fromWorker: record.worker, lateMs });
      const result = JobResultSchema.safeParse(record.returnValue);
      if (result.success) await blobs.delete(result.data.output);
    } catch {
      // The server is away. The result would not be used, and its output has a lifetime.
    }
  }
}
