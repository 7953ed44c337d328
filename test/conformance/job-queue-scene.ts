/** The queue of one test of the conformance suite, with its jobs and results. */

import type { Clock } from '../../shared/base/clock.js';
import type {
  JobConsumer,
  JobProducer,
  JobQueue,
  QueueController,
  TakenJob,
} from '../../shared/queue/job-queue.js';
import { PROTOCOL_VERSION, type JobResult, type TaskJob } from '../../shared/queue/protocol.js';
import type { WorkerReport } from '../../shared/queue/workers/worker-report.js';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import { ordersForTest } from './dispatcher.js';

export interface JobQueueUnderTest {
  readonly queue: JobQueue;
  /** The clock used by the waits of the test itself. */
  readonly clock: Clock;
  /** Runs the test. A simulation advances its time meanwhile. */
  run(test: () => Promise<void>): Promise<void>;
  /** Expires the lock of a job, as if its holder had been silent for long enough. */
  endLock(jobId: string): Promise<void>;
  /** Makes all workers, starts and holders of leases silent for this long. */
  passInSilence(durationMs: number): Promise<void>;
}

const ref = blobRefOf(Uint8Array.of(1));
export function jobOf(jobIndex: number, departures: Partial<TaskJob> = {}): TaskJob {
  return {
    ...ordersForTest(1)[0]!.job,
    runId: 'run',
    epoch: 1,
    jobIndex,
    dense: ref,
    ...departures,
  };
}

export function resultOf(jobIndex: number): JobResult {
  return {
    ...{ protocolVersion: PROTOCOL_VERSION, runId: 'run', outerStep: 0, jobIndex, output: ref },
    ...{ weightedQueryLoss: 0.5, weightedSupportLoss: 0.6, taskCount: 1, queryRowCount: 1 },
    ...{ computeMs: 1, worker: 'w', backend: 'test' },
    ...{ fingerprint: 'test-01234567', microBatchRowsMax: 1 },
  };
}

/** The queue of one test, with a producer and any number of consumers. */
export class Scene {
  readonly producer: JobProducer;
  readonly #underTest: JobQueueUnderTest;
  readonly #consumers: JobConsumer[] = [];
  readonly #otherProducers: JobProducer[] = [];
  readonly #controllers: QueueController[] = [];

  constructor(underTest: JobQueueUnderTest, producer: JobProducer) {
    this.#underTest = underTest;
    this.producer = producer;
  }

  async consumer(name = 'w', report?: () => WorkerReport | null): Promise<JobConsumer> {
    const made = await this.#underTest.queue.openConsumer({
      ...{ name, nonce: `nonce-${this.#consumers.length}`, device: 'cpu' },
      ...(report === undefined ? {} : { report }),
      onError: () => undefined,
      onReconnected: () => undefined,
    });
    this.#consumers.push(made);
    return made;
  }

  /** The end of another coordinator. */
  async anotherProducer(): Promise<JobProducer> {
    const made = await this.#underTest.queue.openProducer();
    this.#otherProducers.push(made);
    return made;
  }

  /** The end of a command that controls runs. */
  async controller(): Promise<QueueController> {
    const made = await this.#underTest.queue.openController();
    this.#controllers.push(made);
    return made;
  }

  /** Adds jobs `a`, `b` and so on, available immediately. */
  async add(...jobIds: string[]): Promise<void> {
    await this.producer.add(jobIds.map((jobId, jobIndex) => ({ jobId, job: jobOf(jobIndex) })));
  }

  endLock(jobId: string): Promise<void> {
    return this.#underTest.endLock(jobId);
  }

  passInSilence(durationMs: number): Promise<void> {
    return this.#underTest.passInSilence(durationMs);
  }

  async workerNames(): Promise<string[]> {
    return (await this.producer.workers()).map(({ name }) => name).sort();
  }

  async until(condition: () => Promise<boolean>): Promise<void> {
    while (!(await condition())) await this.#underTest.clock.sleep(10);
  }

  async close(): Promise<void> {
    for (const consumer of this.#consumers) {
      await consumer.stopWaiting();
      await consumer.close();
    }
    for (const controller of this.#controllers) await controller.close();
    for (const producer of [...this.#otherProducers, this.producer]) await producer.close();
  }
}

/** Waits until a job can be taken, retrying each wait that ends without one. */
export async function taken(consumer: JobConsumer): Promise<TakenJob> {
  for (;;) {
    const job = await consumer.take({ wait: true });
    if (job !== null) return job;
  }
}

export async function takenIds(consumer: JobConsumer, count: number): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) ids.push((await taken(consumer)).jobId);
  return ids;
}

/** Runs a test on a queue of its own. */
export type Test = (title: string, body: (scene: Scene) => Promise<void>) => void;
