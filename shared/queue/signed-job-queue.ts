/**
 * A job queue whose records are signed. The coordinator's end signs jobs, refuses results that are not genuine and
 * ignores such cancellations; the worker's end refuses jobs that are not genuine and signs results; the controller's
 * end signs cancellations. Readers of a record never see a signature.
 */

import { QianmoError } from '../base/errors.js';
import type { LeaseHolder } from '../storage/lease.js';
import type {
  JobProcessor,
  JobProducer,
  JobQueue,
  JobRecord,
  QueueController,
} from './job-queue.js';
import {
  isGenuine,
  partedRecord,
  signatureOf,
  type PartedRecord,
  type SigningKey,
} from './signing.js';

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
    openController: async () => signingController(await queue.openController(), key, queue.address),
  };
}

function signingProducer(producer: JobProducer, key: SigningKey): JobProducer {
  let held: RunStart | null = null;
  const withProof = (holder: LeaseHolder, of: RunStart): LeaseHolder => ({
    ...holder,
    keyProof: signatureOf({}, { kind: 'lease', ...of }, key),
  });
  return {
    ...producer,
    takeLease: (runId, holder, over) => {
      held = { runId, start: holder.start };
      return producer.takeLease(runId, withProof(holder, held), over);
    },
    renewLease: async (holder) => {
      if (held === null) return producer.renewLease(holder);
      const found = await producer.renewLease(withProof(holder, held));
      const parted = { record: {}, signature: found?.signature ?? null };
      return isGenuine(parted, { kind: 'cancel', ...held }, key) ? found : null;
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

interface RunStart {
  readonly runId: string;
  readonly start: string;
}

/** @param key null fails for runs that demand a signature. */
function signingController(
  controller: QueueController,
  key: SigningKey | null,
  where: string,
): QueueController {
  return {
    ...controller,
    cancel: async (runId, { start }) => {
      const holder = await controller.find(runId);
      if (holder?.start !== start || holder.keyProof === undefined)
        return controller.cancel(runId, { start });
      const { keyProof: signature } = holder;
      if (
        key === null ||
        !isGenuine({ record: {}, signature }, { kind: 'lease', runId, start }, key)
      )
        throw new QianmoError({
          kind: 'usage',
          what: `run ${runId} follows signed commands only`,
          where,
          expected: 'the signing key of its coordinator',
          found: key === null ? 'no key' : 'another key',
          cure: 'give this command the same QIANMO_SIGNING_KEY_FILE as its coordinator',
        });
      const signed = signatureOf({}, { kind: 'cancel', runId, start }, key);
      return controller.cancel(runId, { start, signature: signed });
    },
  };
}
