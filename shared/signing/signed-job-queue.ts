/**
 * A job queue whose records are signed. The coordinator's end signs jobs and tells results that are not
 * genuine; the worker's end leaves jobs that are not genuine and signs results. Those who read a job or a
 * result never see a signature.
 */

import type { JobProcessor, JobProducer, JobQueue, JobRecord } from '../queue/job-queue.js';
import { isGenuine, partedRecord, signatureOf, type PartedRecord } from './record-signature.js';
import type { SigningKey } from './signing-key.js';

/** @param key null leaves records unsigned; a worker then refuses jobs that are signed. */
export function signedJobQueue(queue: JobQueue, key: SigningKey | null): JobQueue {
  return {
    address: queue.address,
    openProducer: async (start) => {
      const producer = await queue.openProducer(start);
      return key === null ? producer : signingProducer(producer, key);
    },
    openConsumer: (options) =>
      queue.openConsumer({ ...options, process: signingProcessor(options.process, key) }),
    openController: () => queue.openController(),
  };
}

function signingProducer(producer: JobProducer, key: SigningKey): JobProducer {
  return {
    ...producer,
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
