/** Reads the state of a job that is on the queue, and its output where it has one. */

import type { JobProducer, JobRecord } from '../../shared/queue/job-queue.js';
import type { StepBlobs } from './step-blobs.js';
import { type Fate, fateOf, type JobDelivery } from './job-delivery.js';
import type { Patiently } from './queue-patience.js';

/** A delivery of a job as it was read from the queue. */
export interface ReadJob {
  /** The id of the delivery: that of the present one, or of its copy. */
  readonly jobId: string;
  readonly delivery: JobDelivery;
  readonly fate: Fate;
  /** Null where the fate is no result, or the result's output is gone. */
  readonly output: Uint8Array | null;
}

interface ReaderParts {
  readonly producer: JobProducer;
  readonly stepBlobs: StepBlobs;
  readonly patiently: Patiently;
  readonly openByJobId: ReadonlyMap<string, JobDelivery>;
}

/**
 * @param told the record that came with the wake-up. If it has a result, the queue is not asked.
 * @returns null if the job is not open.
 */
export async function readJob(
  { producer, stepBlobs, patiently, openByJobId }: ReaderParts,
  jobId: string,
  told: JobRecord | undefined,
): Promise<ReadJob | null> {
  const delivery = openByJobId.get(jobId);
  if (delivery === undefined) return null;
  const { job } = delivery;
  let fate = told === undefined ? null : fateOf(told, job);
  if (fate?.kind !== 'result') fate = fateOf(await patiently(() => producer.read(jobId)), job);
  const output = fate.kind === 'result' ? await stepBlobs.output(fate.result.output) : null;
  return { jobId, delivery, fate, output };
}

/** The deliveries that a worker has. */
export async function heldAmong(
  deliveries: readonly JobDelivery[],
  { producer, patiently }: Pick<ReaderParts, 'producer' | 'patiently'>,
): Promise<JobDelivery[]> {
  const records = await patiently(() =>
    Promise.all(deliveries.map(({ jobId }) => producer.read(jobId))),
  );
  return deliveries.filter((_, place) => {
    const record = records[place];
    return record?.state === 'open' && record.holder !== null;
  });
}
