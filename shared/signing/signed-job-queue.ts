/**
 * A job queue whose records are signed. The coordinator's end signs jobs and tells results and orders that are not
 * genuine; the worker's end leaves jobs that are not genuine and signs results; the controller's end signs orders.
 * Those who read a record never see a signature.
 */

import type { JobProcessor, JobProducer, JobQueue, JobRecord } from '../queue/job-queue.js';
import { isGenuine, partedRecord, signatureOf, type PartedRecord } from './record-signature.js';
import { OrdersReader, signingController } from './signed-orders.js';
import type { SigningKey } from './signing-key.js';

/** @param key null leaves records unsigned; a worker then refuses jobs that are signed. */
export function signedJobQueue(queue: JobQueue, key: SigningKey | null): JobQueue {
  return {
    address: queue.address,
    openProducer: async (start) => {
      const producer = await queue.openProducer(start);
      return key === null ? producer : signingProducer(producer, key, queue.address);
    },
    openConsumer: (options) =>
      queue.openConsumer({ ...options, process: signingProcessor(options.process, key) }),
    openController: async () => signingController(await queue.openController(), key, queue.address),
  };
}

function signingProducer(producer: JobProducer, key: SigningKey, where: string): JobProducer {
  let reader: OrdersReader | null = null;
  return {
    ...producer,
    takeLease: (runId, holder, over) => {
      const { start } = holder;
      if (reader?.isOf(runId, start) !== true)
        reader = new OrdersReader({ runId, start, key, where });
      return producer.takeLease(runId, reader.signed(holder), over);
    },
    renewLease: async (holder) => {
      if (reader === null) return producer.renewLease(holder);
      return reader.read(await producer.renewLease(reader.signed(holder)));
    },
    add: (jobs) =>
      producer.add(
        jobs.map(({ jobId, job }) => {
          const signature = signatureOf(job, { kind: 'job', jobId }, key);
          return { jobId, job: { ...job, signature } };
        }),
      ),
    read: async (jobId) => judgedRecord(await producer.read(jobId), jobId, key),
    subscribe: (listener) =>
      producer.subscribe((jobId, record) =>
        listener(jobId, record === undefined ? record : judgedRecord(record, jobId, key)),
      ),
  };
}

function judgedRecord(record: JobRecord, jobId: string, key: SigningKey): JobRecord {
  if (record.state !== 'completed') return record;
  const parted = partedRecord(record.returnValue);
  const { worker } = record;
  if (isGenuine(parted, { kind: 'result', jobId }, key))
    return { state: 'completed', returnValue: parted.record, worker };
  const reason =
    parted.signature === null
      ? `the result of worker ${worker} is not signed`
      : `the signature of the result of worker ${worker} is false`;
  return { state: 'forged', reason, worker };
}

function signingProcessor(process: JobProcessor, key: SigningKey | null): JobProcessor {
  return async (job, lost) => {
    const { jobId, data } = job;
    const parted = partedRecord(data);
    const refusal = reasonToRefuse(parted, jobId, key);
    const outcome = await process(
      { ...job, data: parted.record, ...(refusal === null ? {} : { refusal }) },
      lost,
    );
    if (key === null || outcome.kind !== 'completed') return outcome;
    const { result } = outcome;
    const signature = signatureOf(result, { kind: 'result', jobId }, key);
    const signed = { ...result, signature };
    return { kind: 'completed', result: signed };
  };
}

function reasonToRefuse(
  parted: PartedRecord,
  jobId: string,
  key: SigningKey | null,
): string | null {
  if (key === null)
    return parted.signature === null
      ? null
      : 'the job is signed and this worker has no key: give it QIANMO_SIGNING_KEY_FILE';
  if (isGenuine(parted, { kind: 'job', jobId }, key)) return null;
  return parted.signature === null
    ? 'the job is not signed and this worker takes signed jobs only: give the coordinator QIANMO_SIGNING_KEY_FILE'
    : "the job's signature is false: give coordinator and workers the same QIANMO_SIGNING_KEY_FILE";
}
