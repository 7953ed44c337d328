/**
 * A job queue whose records are signed. The coordinator's end signs jobs and refuses results and orders that are not
 * genuine; the worker's end refuses jobs that are not genuine and signs results; the controller's end signs orders for
 * the start of the coordinator that works on the run. Readers of a record never see a signature.
 *
 * The next start of a run inherits a pause, and no extension: a checkpoint records each that has taken effect.
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
  encodeOrders,
  NO_ORDERS,
  UnreadableOrdersError,
  type ControlledRun,
  type RunOrders,
} from './run-orders.js';
import {
  isGenuine,
  partedRecord,
  signatureOf,
  type PartedRecord,
  type SigningKey,
} from './signing.js';

const SAME_KEY = 'the same QIANMO_SIGNING_KEY_FILE as its coordinator';

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
  let held: RunStart | null = null;
  let orders = NO_ORDERS;
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
      // A server that has lost its memory says the same as one whose orders somebody deleted.
      if (encodeOrders(found) === encodeOrders(NO_ORDERS)) return orders;
      const genuine = genuineOrders(found, held, key);
      if (genuine === null) throw ordersRefused(held.runId, where, found);
      orders = genuine;
      return orders;
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

/** The orders that a start of a coordinator follows; null if they are not genuine. */
function genuineOrders(
  { seal, ...orders }: RunOrders,
  { runId, start }: RunStart,
  key: SigningKey,
): RunOrders | null {
  if (seal === undefined) return null;
  const place = { kind: 'orders', runId, start: seal.start } as const;
  if (!isGenuine({ record: orders, signature: seal.signature }, place, key)) return null;
  return seal.start === start ? orders : { ...NO_ORDERS, isPaused: orders.isPaused };
}

function sealed(
  { seal: _earlier, ...orders }: RunOrders,
  of: RunStart,
  key: SigningKey,
): RunOrders {
  const signature = signatureOf(orders, { kind: 'orders', ...of }, key);
  return { ...orders, seal: { start: of.start, signature } };
}

/** @param key null fails for runs that demand signed orders. */
function signingController(
  controller: QueueController,
  key: SigningKey | null,
  where: string,
): QueueController {
  return {
    ...controller,
    find: async (runId): Promise<ControlledRun | null> => {
      const found = await controller.find(runId);
      if (found === null) return null;
      const { keyProof: _proof, ...holder } = found.holder;
      return { holder, orders: ordersInEffect(found, runId, key) };
    },
    replace: async (runId, earlier, orders) => {
      const found = await controller.find(runId);
      if (found === null) return false;
      const { start, keyProof = null } = found.holder;
      if (keyProof === null) return controller.replace(runId, earlier, orders);
      const place = { kind: 'lease', runId, start } as const;
      if (key === null || !isGenuine({ record: {}, signature: keyProof }, place, key))
        throw new QianmoError({
          kind: 'usage',
          what: `run ${runId} takes signed orders only`,
          where,
          expected: 'the signing key of its coordinator',
          found: key === null ? 'no key' : 'another key',
          cure: `give this command ${SAME_KEY}`,
        });
      const inEffect = ordersInEffect(found, runId, key);
      if (encodeOrders(inEffect) !== encodeOrders(earlier)) return false;
      return controller.replace(runId, found.orders, sealed(orders, { runId, start }, key));
    },
    withdraw: (runId, change) =>
      controller.withdraw(runId, (found) => {
        const changed = change(found);
        if (key === null || found.seal === undefined) return changed;
        return sealed(changed, { runId, start: found.seal.start }, key);
      }),
  };
}

/** The orders that the coordinator follows, or will follow when it reads the record. */
function ordersInEffect(
  { holder, orders }: ControlledRun,
  runId: string,
  key: SigningKey | null,
): RunOrders {
  if (key === null || holder.keyProof === undefined) return orders;
  return genuineOrders(orders, { runId, start: holder.start }, key) ?? NO_ORDERS;
}

function ordersRefused(runId: string, where: string, { seal }: RunOrders): UnreadableOrdersError {
  return new UnreadableOrdersError({
    kind: 'usage',
    what: `the orders that were given to run ${runId} are refused`,
    where,
    expected: 'orders that are signed for this run',
    found: seal === undefined ? 'they are not signed' : 'their signature is false',
    cure: `give orders with ${SAME_KEY}; if nobody gave these, somebody else writes to this Redis`,
  });
}
