/**
 * A job queue whose records are signed. The coordinator's end signs jobs, refuses results that are not genuine and
 * ignores such cancellations; the worker's end refuses jobs that are not genuine and signs results; the controller's
 * end signs cancellations. Readers of a record never see a signature.
 *
 * A signature is an HMAC-SHA256 (RFC 2104) over canonical JSON, with the key that coordinators and workers of one pool
 * share. It covers every field of the record and its place, so a genuine record is refused anywhere else.
 */

import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto';
import { canonicalJson, isRecord } from '../base/canonical-json.js';
import { errorOf } from '../base/errors.js';
import { textOfNamedFile } from '../base/named-file.js';
import type { LeaseHolder } from '../storage/lease.js';
import type {
  JobProcessor,
  JobProducer,
  JobQueue,
  JobRecord,
  QueueController,
} from './job-queue.js';

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
    find: async (runId) => {
      const found = await controller.find(runId);
      if (found === null) return null;
      const { keyProof: _proof, ...holder } = found;
      return holder;
    },
    cancel: async (runId, { start }) => {
      const holder = await controller.find(runId);
      if (holder?.start !== start || holder.keyProof === undefined)
        return controller.cancel(runId, { start });
      const { keyProof: signature } = holder;
      if (
        key === null ||
        !isGenuine({ record: {}, signature }, { kind: 'lease', runId, start }, key)
      )
        throw errorOf('usage', `run ${runId} follows signed commands only`, {
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

/** Holds the key without showing it: neither JSON nor a text of it has its bytes. */
export type SigningKey = KeyObject;

const VARIABLE = 'QIANMO_SIGNING_KEY';
const FILE_VARIABLE = 'QIANMO_SIGNING_KEY_FILE';
/** As many as HMAC-SHA256 has bytes; a hexadecimal key then has 128 bits at least. */
const CHARACTER_COUNT_MIN = 32;
const KEY_FILE = {
  variable: FILE_VARIABLE,
  what: 'the file of the signing key',
  byteCountMax: 4_096,
};

/**
 * Returns null if the environment names no key.
 *
 * @throws QianmoError `usage` for a key that is too short, or is given twice; `environment` for a file that
 *   cannot be read.
 */
export async function signingKeyOf(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<SigningKey | null> {
  const { [VARIABLE]: text = '', [FILE_VARIABLE]: file = '' } = environment;
  if (text !== '' && file !== '')
    throw errorOf('usage', `both ${VARIABLE} and ${FILE_VARIABLE} are set`, {
      cure: 'unset one of them',
    });
  if (file !== '') return keyOf(await textOfNamedFile({ ...KEY_FILE, file }), file);
  return text === '' ? null : keyOf(text, VARIABLE);
}

/** White space around the key is not part of it: files end with a line feed. */
function keyOf(text: string, where: string): SigningKey {
  const key = text.trim();
  if (key.length >= CHARACTER_COUNT_MIN) return createSecretKey(key, 'utf8');
  throw errorOf('usage', 'the signing key is too short', {
    where,
    expected: `at least ${CHARACTER_COUNT_MIN} characters`,
    found: `${key.length} characters`,
    cure: 'make one with: openssl rand -hex 32',
  });
}

/** The meaning of a record, and where it belongs. */
type RecordPlace =
  /** A delivery, which is that of one start, one outer step, one job and one attempt. */
  | { readonly kind: 'job' | 'result'; readonly jobId: string }
  | { readonly kind: 'cancel' | 'lease'; readonly runId: string; readonly start: string };

/** Hexadecimal digits. */
const SIGNATURE_LENGTH = 64;
/** The bytes that a signature adds to the JSON of a record. */
export const SIGNATURE_BYTE_COUNT = SIGNATURE_LENGTH + ',"signature":""'.length;
/** Records are nested less deeply. Strangers may nest theirs so deeply that a walk would end the process. */
const DEPTH_MAX = 32;

/** A record as it travels, separated from its signature. The record may be anything. */
interface PartedRecord {
  readonly record: unknown;
  /** Null if there is none. */
  readonly signature: string | null;
}

export function signatureOf(record: unknown, place: RecordPlace, key: SigningKey): string {
  const text = canonicalJson({ ...place, record });
  return createHmac('sha256', key).update(text).digest('hex');
}

export function partedRecord(data: unknown): PartedRecord {
  if (!isRecord(data)) return { record: data, signature: null };
  const { signature = null, ...record } = data;
  if (signature === null) return { record, signature };
  return { record, signature: typeof signature === 'string' ? signature : '' };
}

export function isGenuine(
  { record, signature }: PartedRecord,
  place: RecordPlace,
  key: SigningKey,
): boolean {
  if (signature?.length !== SIGNATURE_LENGTH || isDeeperThan(record, DEPTH_MAX)) return false;
  const expected = Buffer.from(signatureOf(record, place, key), 'latin1');
  const found = Buffer.from(signature, 'latin1');
  return timingSafeEqual(expected, found);
}

function isDeeperThan(value: unknown, depthMax: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (depthMax === 0) return true;
  return Object.values(value).some((part) => isDeeperThan(part, depthMax - 1));
}
