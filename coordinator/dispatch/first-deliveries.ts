/** Sends the first deliveries of a step. A bounded window of them is on the queue at once. */

import type { StepBlobs } from './blobs/step-blobs.js';
import { jobOf, type JobOrder } from './dispatcher.js';
import { JobDelivery } from './job-delivery.js';
import type { Patiently } from './queue-patience.js';
import type { SecondOpinions } from './second-opinions.js';
import { inSendingOrder } from './sending-order.js';
import type { DispatchContext, StepCall } from './step-context.js';
import { requireFitting } from './step-failures.js';
import type { StepWorkers } from './step-workers.js';

/** The number of jobs that are sent before the inputs of others are encoded; it doubles. */
const FIRST_SENT_COUNT = 4;

interface FirstDeliveriesOptions {
  readonly call: Pick<StepCall<object>, 'orders' | 'idSuffix'>;
  readonly workers: StepWorkers;
  readonly stepBlobs: StepBlobs;
  readonly opinions: SecondOpinions;
  readonly openByJobId: Map<string, JobDelivery>;
  readonly patiently: Patiently;
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
    let leftCount = await workers.sendCount({ openCount: openByJobId.size, unsentCount });
    for (let countMax = FIRST_SENT_COUNT; leftCount > 0; countMax *= 2) {
      const fresh = this.#next(Math.min(countMax, leftCount));
      leftCount -= fresh.length;
      for (const delivery of fresh) openByJobId.set(delivery.jobId, delivery);
      const put = stepBlobs.put(fresh.map(({ order }) => order));
      const sent = this.#sentBehind(put, fresh);
      // It is thrown where it is awaited, which is later.
      sent.catch(() => undefined);
      sending.push(sent);
      // The commands leave before the next inputs are encoded.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(sending);
  }

  #next(count: number): JobDelivery[] {
    const orders = this.#sendingOrder.slice(this.#sentCount, this.#sentCount + count);
    this.#sentCount += orders.length;
    return orders.map((order) => {
      const delivery = this.#deliveryOf(order);
      requireFitting(delivery);
      return delivery;
    });
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
  async #sentBehind(put: Promise<void>, fresh: readonly JobDelivery[]): Promise<void> {
    if (this.#context.largeBlobs !== undefined) await put;
    await Promise.all([put, this.#send(fresh)]);
  }

  async #send(fresh: readonly JobDelivery[]): Promise<void> {
    const { clock, producer } = this.#context;
    await this.#options.patiently(() => producer.add(fresh));
    for (const delivery of fresh) delivery.sentMs = clock.monotonicMs();
  }
}
