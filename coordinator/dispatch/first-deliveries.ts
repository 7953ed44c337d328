/**
 * The first deliveries of the jobs of a step: a window of them is on the queue at once, small ones in parcels.
 * A job that is delivered again travels alone, so that a parcel which fails is taken apart.
 */

import { JOB_BYTE_COUNT_MAX } from '../../shared/queue/protocol.js';
import { SIGNATURE_BYTE_COUNT } from '../../shared/signing/record-signature.js';
import type { StepBlobs } from './blobs/step-blobs.js';
import { jobOf, type JobOrder } from './dispatcher.js';
import { JobDelivery } from './job-delivery.js';
import type { Patiently } from './queue-patience.js';
import type { SecondOpinions } from './second-opinions.js';
import { inSendingOrder } from './sending-order.js';
import type { DispatchContext, StepCall } from './step-context.js';
import { fittingByteCount } from './step-failures.js';
import type { StepWorkers } from './step-workers.js';
import { jobsInExchange, parcelSize } from './parcels/parcel-size.js';

/** The number of jobs that are sent before the inputs of others are encoded; it doubles. */
const FIRST_SENT_COUNT = 4;
/** Bounds the inputs that a worker holds for the jobs of one parcel. */
const PARCEL_INPUT_BYTE_COUNT_MAX = 8 * 1024 * 1024;
/** The bytes that a job takes in a parcel beside its own record: its id and the names of its parts. */
const PARCEL_PART_BYTE_COUNT = 256;
const PARCEL_BYTE_COUNT_MAX = JOB_BYTE_COUNT_MAX - SIGNATURE_BYTE_COUNT - PARCEL_PART_BYTE_COUNT;

interface FirstDeliveriesOptions {
  readonly call: Pick<StepCall<object>, 'orders' | 'attemptsMax' | 'idSuffix'>;
  readonly workers: StepWorkers;
  readonly stepBlobs: StepBlobs;
  readonly opinions: SecondOpinions;
  readonly openByJobId: Map<string, JobDelivery>;
  readonly patiently: Patiently;
}

/** The times and the workers that decide the size of parcels while a window is filled. */
interface ParcelTerms {
  readonly exchangeMs: number;
  readonly usualMs: number;
  readonly workerCount: number;
}

/** Deliveries that travel as one entry of the queue. */
interface Group {
  readonly deliveries: JobDelivery[];
  readonly size: number;
  byteCount: number;
  inputByteCount: number;
}

export class FirstDeliveries {
  readonly #context: DispatchContext;
  readonly #options: FirstDeliveriesOptions;
  readonly #sendingOrder: readonly JobOrder[];
  #sentCount = 0;

  constructor(context: DispatchContext, options: FirstDeliveriesOptions) {
    this.#context = context;
    this.#options = options;
    this.#sendingOrder = inSendingOrder(options.call.orders);
  }

  /**
   * Sends jobs until the window is full. The first ones leave early, so that workers compute while the
   * inputs of the others are encoded.
   */
  async fillWindow(): Promise<void> {
    const { openByJobId, workers, stepBlobs } = this.#options;
    const unsentCount = this.#sendingOrder.length - this.#sentCount;
    if (unsentCount === 0) return;
    const sending: Promise<unknown>[] = [];
    const terms = await this.#parcelTerms();
    const parcelJobCount = this.#parcelSize(terms);
    const counts = { openCount: openByJobId.size, unsentCount, parcelJobCount };
    let leftCount = await workers.sendCount(counts);
    for (let countMax = FIRST_SENT_COUNT; leftCount > 0; countMax *= 2) {
      const groups = this.#nextGroups(Math.min(countMax, leftCount), terms);
      const fresh = groups.flatMap(({ deliveries }) => deliveries);
      leftCount -= fresh.length;
      for (const delivery of fresh) openByJobId.set(delivery.jobId, delivery);
      const put = stepBlobs.put(fresh.map(({ order }) => order));
      const sent = this.#sentBehind(put, groups);
      // It is thrown where it is awaited, which is later.
      sent.catch(() => undefined);
      sending.push(sent);
      // The commands leave before the next inputs are encoded.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(sending);
  }

  /** Null where every job travels alone. A job with a single attempt must not share the fate of others. */
  async #parcelTerms(): Promise<ParcelTerms | null> {
    const { call, workers } = this.#options;
    const [order] = call.orders;
    if (order === undefined || call.attemptsMax === 1) return null;
    if (call.orders.length < FIRST_SENT_COUNT) return null;
    const usualMs = this.#context.durations.usualMs(order.job);
    const { exchangeMs } = this.#context.limits;
    if (jobsInExchange({ exchangeMs, usualMs }) < 2) return null;
    return { exchangeMs, usualMs, workerCount: await workers.count() };
  }

  #parcelSize(terms: ParcelTerms | null): number {
    if (terms === null) return 1;
    const orderCount = this.#sendingOrder.length;
    const { workerCount, ...times } = terms;
    return parcelSize(times, { orderCount, sentCount: this.#sentCount, workerCount });
  }

  #nextGroups(count: number, terms: ParcelTerms | null): Group[] {
    const groups: Group[] = [];
    const orders = this.#sendingOrder.slice(this.#sentCount, this.#sentCount + count);
    for (const order of orders) {
      const delivery = this.#deliveryOf(order);
      const byteCount = fittingByteCount(delivery) + PARCEL_PART_BYTE_COUNT;
      const inputByteCount = delivery.job.rowPack?.byteCount ?? 0;
      const last = groups.at(-1);
      if (last !== undefined && hasRoomFor(last, byteCount, inputByteCount)) {
        last.deliveries.push(delivery);
        last.byteCount += byteCount;
        last.inputByteCount += inputByteCount;
      } else {
        const size = this.#parcelSize(terms);
        groups.push({ deliveries: [delivery], size, byteCount, inputByteCount });
      }
      this.#sentCount += 1;
    }
    return groups;
  }

  #deliveryOf(order: JobOrder): JobDelivery {
    const { epoch, leases, fingerprints, largeBlobs } = this.#context;
    const { opinions, call } = this.#options;
    const notBy = opinions.excludedFrom(null);
    const stamp = { epoch, largeBlobs, fingerprint: fingerprints.of(order.job), notBy };
    const job = jobOf(order, (bytes) => leases.refOf(bytes), stamp);
    return new JobDelivery(order, job, call.idSuffix);
  }

  /** The queue's own server takes inputs before the jobs that are sent behind them. Another store may take its time. */
  async #sentBehind(put: Promise<void>, groups: readonly Group[]): Promise<void> {
    if (this.#context.largeBlobs !== undefined) await put;
    await Promise.all([put, this.#send(groups)]);
  }

  async #send(groups: readonly Group[]): Promise<void> {
    const { clock, producer } = this.#context;
    const parcels = groups.map(({ deliveries }) => deliveries);
    await this.#options.patiently(() => producer.addParcels(parcels));
    for (const delivery of parcels.flat()) delivery.sentMs = clock.monotonicMs();
  }
}

function hasRoomFor(group: Group, byteCount: number, inputByteCount: number): boolean {
  return (
    group.deliveries.length < group.size &&
    group.byteCount + byteCount <= PARCEL_BYTE_COUNT_MAX &&
    group.inputByteCount + inputByteCount <= PARCEL_INPUT_BYTE_COUNT_MAX
  );
}
