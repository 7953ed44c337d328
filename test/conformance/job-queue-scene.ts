/** The queue of one test of the conformance suite, with its jobs and results. */

import type { Clock } from '../../shared/base/clock.js';
import type {
  JobConsumer,
  JobOutcome,
  JobProducer,
  JobQueue,
  OpenConsumerOptions,
  QueueController,
  TakenJob,
  WorkerReport,
} from '../../shared/queue/job-queue.js';
import type { JobFailure } from '../../shared/queue/queue-errors.js';
import { type CarriedJob, type JobResult } from '../../shared/queue/protocol.js';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import { ordersForTest } from './dispatcher.js';
import { jobResult } from '../fixtures/job-result.js';

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
export function jobOf(jobIndex: number, departures: Partial<CarriedJob> = {}): CarriedJob {
  return {
    ...ordersForTest(1)[0]!.job,
    runId: 'run',
    epoch: 1,
    jobIndex,
    dense: ref,
    ...departures,
  };
}

export const resultOf = (jobIndex: number): JobResult =>
  jobResult({ runId: 'run', outerStep: 0, jobIndex, output: ref });

/** A job that the test ends by hand. */
export interface JobInHand extends TakenJob {
  readonly lost: AbortSignal;
  readonly end: (outcome: JobOutcome) => void;
  /** Resolves when the queue has the result. */
  complete(result: JobResult): Promise<void>;
  /** Resolves when the queue has the failure. */
  fail(failure: JobFailure): Promise<void>;
}

/** A consumer whose jobs are taken and ended by hand. */
export interface HandConsumer extends JobConsumer {
  readonly errors: readonly Error[];
  /** Resolves with a job that the consumer takes. */
  next(): Promise<JobInHand>;
}

/** @param options.hasEnded resolves when the queue has the outcome of a job */
export async function handConsumer(
  queue: Pick<JobQueue, 'openConsumer'>,
  {
    hasEnded,
    ...options
  }: Omit<OpenConsumerOptions, 'process' | 'onError' | 'onReconnected'> & {
    readonly hasEnded: (jobId: string) => Promise<void>;
  },
): Promise<HandConsumer> {
  const errors: Error[] = [];
  const arrived: JobInHand[] = [];
  const waiting: ((job: JobInHand) => void)[] = [];
  const arrive = (job: JobInHand): void => {
    const waiter = waiting.shift();
    if (waiter === undefined) arrived.push(job);
    else waiter(job);
  };
  const consumer = await queue.openConsumer({
    ...options,
    process: (job, lost) =>
      new Promise((end) => {
        const ended = (outcome: JobOutcome): Promise<void> => {
          end(outcome);
          return hasEnded(job.jobId);
        };
        arrive({
          ...{ ...job, lost, end },
          complete: (result) => ended({ kind: 'completed', result }),
          fail: (failure) => ended({ kind: 'failed', failure }),
        });
      }),
    onError: (error) => void errors.push(error),
    onReconnected: () => undefined,
  });
  return {
    ...{ errors, server: consumer.server, name: consumer.name },
    next: () => {
      const early = arrived.shift();
      if (early !== undefined) return Promise.resolve(early);
      consumer.takeOne({ waits: true, heldMax: 2 });
      return new Promise((resolve) => waiting.push(resolve));
    },
    takeOne: (how) => consumer.takeOne(how),
    pause: () => consumer.pause(),
    beat: (jobId) => consumer.beat(jobId),
    quarantinedMs: () => consumer.quarantinedMs(),
    blobs: (limits) => consumer.blobs(limits),
    stop: () => consumer.stop(),
    close: () => consumer.close(),
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

  async consumer(name = 'w', report?: () => WorkerReport | null): Promise<HandConsumer> {
    const made = await handConsumer(this.#underTest.queue, {
      ...{ name, nonce: `nonce-${this.#consumers.length}`, device: 'cpu' },
      ...(report === undefined ? {} : { report }),
      hasEnded: (jobId) =>
        this.until(async () => (await this.producer.read(jobId)).state !== 'open'),
    });
    this.#consumers.push(made);
    return made;
  }

  /** The end of another coordinator. */
  async anotherProducer(start = ''): Promise<JobProducer> {
    const made = await this.#underTest.queue.openProducer(start);
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
    for (const consumer of this.#consumers) await consumer.close();
    for (const controller of this.#controllers) await controller.close();
    for (const producer of [...this.#otherProducers, this.producer]) await producer.close();
  }
}

/** Takes so many jobs, and completes each of them. */
export async function takenIds(consumer: HandConsumer, count: number): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) {
    const job = await consumer.next();
    ids.push(job.jobId);
    await job.complete(resultOf(0));
  }
  return ids;
}

/** Runs a test on a queue of its own. */
export type Test = (title: string, body: (scene: Scene) => Promise<void>) => void;
