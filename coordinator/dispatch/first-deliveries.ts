/**
 * The first deliveries of the jobs of a step. A window of them is on the queue at once, which bounds the inputs that
 * are in memory.
 */

import type { StepBlobs } from './blobs/step-blobs.js';
import { jobOf, type JobOrder } from './dispatcher.js';
import { JobDelivery } from './job-delivery.js';
import type { Patiently } from './queue-patience.js';
import type { SecondOpinions } from './second-opinions.js';
import type { DispatchContext, StepCall } from './step-context.js';
import { assertFits } from './step-failures.js';
import type { StepWorkers } from './step-workers.js';

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
  #sentCount = 0;

  constructor(context: DispatchContext, options: FirstDeliveriesOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Sends jobs until the window is full. Workers compute the first ones while the inputs of the others are encoded. */
  async fillWindow(): Promise<void> {
    const { call, openByJobId, workers } = this.#options;
    const unsentCount = call.orders.length - this.#sentCount;
    if (unsentCount === 0) return;
    const sendCount = await workers.sendCount({ openCount: openByJobId.size, unsentCount });
    const sending: Promise<unknown>[] = [];
    for (const order of call.orders.slice(this.#sentCount, this.#sentCount + sendCount)) {
      this.#sentCount += 1;
      const delivery = this.#deliveryOf(order);
      assertFits(delivery);
      openByJobId.set(delivery.jobId, delivery);
      const sent = this.#send(delivery);
      // It is thrown where it is awaited, which is later.
      sent.catch(() => undefined);
      sending.push(sent);
      // The commands leave before the next inputs are encoded.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(sending);
  }

  #deliveryOf(order: JobOrder): JobDelivery {
    const { epoch, leases, fingerprints, largeBlobs } = this.#context;
    const { opinions, call } = this.#options;
    const notBy = opinions.excludedFrom(null);
    const stamp = { epoch, largeBlobs, fingerprint: fingerprints.of(order.job), notBy };
    const job = jobOf(order, (bytes) => leases.refOf(bytes), stamp);
    return new JobDelivery(order, job, call.idSuffix);
  }

  /** The queue's own server takes inputs before the jobs that follow them. Another store may take longer. */
  async #send(delivery: JobDelivery): Promise<void> {
    const { clock, producer, largeBlobs } = this.#context;
    const { stepBlobs, patiently } = this.#options;
    const put = stepBlobs.put(delivery.order);
    if (largeBlobs !== undefined) await put;
    await Promise.all([put, patiently(() => producer.add([delivery]))]);
    delivery.sentMs = clock.monotonicMs();
  }
}
