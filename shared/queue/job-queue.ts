/**
 * The queue between coordinators and workers, as both see it. `bullmq-job-queue.ts` implements it on
 * Redis. The simulation has one in memory that behaves alike (`infra/simulation/memory-queue.ts`).
 *
 * A coordinator opens a producer, a worker opens a consumer with a processor. The consumer holds the lock
 * of a job for `LOCK_DURATION_MS` and extends it while the processor works. When a worker dies, the lock ends.
 * While any producer is open, the queue looks for jobs without a lock every `STALLED_INTERVAL_MS`.
 * A job that it finds twice in a row has lost its worker: it fails as `worker-lost` when it is taken
 * next, so that the coordinator counts every worker that a job costs.
 *
 * While the server is away, calls fail with `QueueUnavailableError`, or wait where the interface says so.
 * A server that answers and refuses is a `QueueRefusedError`.
 *
 * The queue retries nothing and delays nothing: each delivery of a job has an id of its own, and the
 * coordinator decides whether and when there is another. No time of one machine is compared with a
 * time of another: locks and quarantines are durations that the server counts down.
 */

import { FingerprintSchema } from '../events/device-report.js';
import type { BlobStore } from '../storage/blob-store.js';
import type { LeaseAnswer, LeaseHolder, RunEnd } from '../storage/lease.js';
import { z } from 'zod';
import type { JobFailure } from './queue-errors.js';
import type { CarriedJob, JobResult, LargeBlobs } from './protocol.js';

export interface JobQueue {
  /** The address without a password, for messages. */
  readonly address: string;
  /**
   * @param start the nonce in the ids of the jobs whose wake-ups the producer hears
   * @throws QianmoError `environment` when the server is down, refuses, or may evict keys.
   */
  openProducer(start: string): Promise<JobProducer>;
  openConsumer(options: OpenConsumerOptions): Promise<JobConsumer>;
  openController(): Promise<QueueController>;
}

/**
 * A command to one start of a coordinator to stop. Later starts of the run do not follow it, so it need not be taken
 * back.
 */
export const CancellationSchema = z.strictObject({
  start: z.string().min(1),
  /** The signature of those who cancel, for a run of a pool with a key. */
  signature: z.string().optional(),
});
export type Cancellation = z.infer<typeof CancellationSchema>;

/** The end of people who look at a queue and cancel its runs. Calls fail at once while the server is away. */
export interface QueueController {
  /** The live workers, of all runs. */
  workers(): Promise<readonly ConnectedWorker[]>;
  /** The coordinator that holds the lease of the run; null if none does. */
  find(runId: string): Promise<LeaseHolder | null>;
  /** How a coordinator gave back the lease that it had; null if it has it, has died, or ended long ago. */
  endOf(runId: string, start: string): Promise<RunEnd | null>;
  /** May be repeated until the coordinator shows that it stops. */
  cancel(runId: string, cancellation: Cancellation): Promise<void>;
  close(): Promise<void>;
}

export interface OpenConsumerOptions {
  /** The worker's name, as coordinators and the queue board see it, unless another worker has it. */
  readonly name: string;
  readonly device: string;
  /** Asked with every beat; null as long as there is nothing to say. */
  readonly report?: () => WorkerReport | null;
  /** Identifies this consumer among workers of the same name. */
  readonly nonce: string;
  /** Called with each job that the consumer takes. It must not throw. */
  readonly process: JobProcessor;
  /** Called with each error of the connection, which is retried by itself. */
  readonly onError: (error: Error) => void;
  readonly onReconnected: () => void;
}

const MODEL_LENGTH_MAX = 100;
const byteCount = z.int().nonnegative();

/** Facts of a worker about its device and its memory. */
const WorkerReportSchema = z.strictObject({
  /** The device of its compute process; null as long as that has not reported it. */
  device: z
    .strictObject({
      kind: z.enum(['cpu', 'gpu']),
      /** The name of the processor or of the GPU. */
      model: z.string().transform((model) => model.trim().slice(0, MODEL_LENGTH_MAX)),
      /** Null without a GPU. */
      memoryMiB: z.int().nonnegative().nullable(),
      /** The kind of machine that computes its jobs; null while it computes portable ones. */
      fingerprint: FingerprintSchema.nullable(),
    })
    .nullable(),
  /** Resident memory of the process that talks to the queue. */
  residentByteCount: byteCount,
  /** The same of the process that computes, after its last job; null before one. */
  computeResidentByteCount: byteCount.nullable(),
});
export type WorkerReport = Readonly<z.infer<typeof WorkerReportSchema>>;

/** A worker that has said within `WORKER_SILENCE_MS_MAX` that it lives. */
export const ConnectedWorkerSchema = z.strictObject({
  /** No two workers that live have the same one. */
  name: z.string(),
  instance: z.string(),
  device: z.string(),
  /** When it connected, by the clock of the server, in milliseconds since the Unix epoch. */
  sinceMs: z.number(),
  /** A job that it holds; null when it waits. */
  jobId: z.string().nullable(),
  /** Null where it has not sent one. A worker of another version is listed without it. */
  report: WorkerReportSchema.nullable().catch(null),
});
export type ConnectedWorker = Readonly<z.infer<typeof ConnectedWorkerSchema>>;

interface QueuedJob {
  readonly jobId: string;
  readonly job: CarriedJob;
}

/**
 * The state of a job as the queue has it. This record is the truth about a job; the event that
 * announces a change may be lost.
 */
export type JobRecord =
  | { readonly state: 'gone' }
  /**
   * It waits, or a worker holds it. `holder` is the worker that took it last; null if none has taken it, and possibly
   * if that one is lost.
   */
  | { readonly state: 'open'; readonly holder: string | null }
  | { readonly state: 'completed'; readonly returnValue: unknown; readonly worker: string }
  | { readonly state: 'failed'; readonly reason: string; readonly worker: string }
  /** The result does not have the signature of this pool (`shared/signing`). */
  | { readonly state: 'forged'; readonly reason: string; readonly worker: string };

/**
 * Called with the id of a job that finished, or with `WAKE_ALL` when events may have been missed.
 *
 * @param record the record of a completed job, where the event has it; without the worker's name.
 */
export type WakeUp = (jobId: string, record?: JobRecord) => void;
export const WAKE_ALL = 'all';

export interface BlobLimits {
  /** How long a blob outlives its last use, where the store removes blobs by itself. */
  readonly lifetimeMs: number;
  readonly blobByteCountMax: number;
  /** The place of large blobs; beside the queue if absent. Only `queueWithLargeBlobs` knows places. */
  readonly large?: LargeBlobs;
}

/** The coordinator's end. Calls fail at once, with `QueueUnavailableError`, while the server is away. */
export interface JobProducer {
  /**
   * Takes the lease of a run if nobody has it, or if it ran out: without a renewal it ends after
   * `RUN_LEASE_MS` by the clock of the server. A start that holds it already gets its epoch again.
   *
   * @param over the mark of a holder that is known to be dead.
   */
  takeLease(runId: string, holder: LeaseHolder, over: string | null): Promise<LeaseAnswer>;
  /**
   * Renews the lease that was taken, also when it ran out and nobody has taken it since. Returns the
   * cancellation that was given to this start, or null.
   *
   * @throws RunFencedError if another coordinator has taken it.
   */
  renewLease(holder: LeaseHolder): Promise<Cancellation | null>;
  /**
   * Gives the lease back, if it is still held.
   *
   * @param end how the run has ended; absent if it has not begun
   */
  releaseLease(end?: Omit<RunEnd, 'start'>): Promise<void>;
  /**
   * Adds all jobs or none. A job whose id is on the queue already stays as it is.
   *
   * @throws RunFencedError if another coordinator has taken the lease since this producer did. No job
   *   stays added then.
   */
  add(jobs: readonly QueuedJob[]): Promise<void>;
  read(jobId: string): Promise<JobRecord>;
  /** Removes jobs that wait. A job that a worker holds runs to its end, and its result is ignored. */
  remove(jobIds: readonly string[]): Promise<void>;
  /** Removes the waiting jobs of a run that have an earlier epoch, and returns their number. */
  removeLeftovers(runId: string, epoch: number): Promise<number>;
  workers(): Promise<readonly ConnectedWorker[]>;
  /** Asks a worker to take no job for this long, counted by the server. The latest request holds. */
  quarantine(worker: string, durationMs: number): Promise<void>;
  /** Returns the function that ends the subscription. */
  subscribe(listener: WakeUp): () => void;
  blobs(limits: BlobLimits): BlobStore;
  close(): Promise<void>;
}

export interface TakeTerms {
  readonly waits: boolean;
  readonly heldMax: 1 | 2;
}

/** The worker's end. Calls wait while the server is away; one that gives up fails with `QueueUnavailableError`. */
export interface JobConsumer {
  /** The server's name and version: `valkey 9.1.2`. */
  readonly server: string;
  /** The name that was asked for, with a number behind if another worker has it. */
  readonly name: string;
  /**
   * Takes one more job, the one that has waited longest, and calls the processor with it. A consumer that
   * already waits for one goes on waiting.
   *
   * @param how.waits false gives up if no job waits at present
   * @param how.heldMax the jobs that the consumer may hold, the new one included; before, it takes none
   */
  takeOne(how: TakeTerms): void;
  /** Gives up a wait for a job. One that is under way already may still arrive. */
  pause(): void;
  /**
   * Says that this worker lives, and which job it holds. Returns the number of workers that live, this
   * one included.
   */
  beat(jobId: string | null): Promise<number>;
  /** How much longer a coordinator wants this worker to take no job; 0 if none does. */
  quarantinedMs(): Promise<number>;
  blobs(limits: BlobLimits): BlobStore;
  /** Takes no more jobs. Resolves when those under way have ended on the queue. */
  stop(): Promise<void>;
  /** Disconnects. Jobs still held stay locked until their locks end. */
  close(): Promise<void>;
}

/**
 * Computes a job.
 *
 * @param lost aborts when the lock is lost: another worker gets the job, or it is gone.
 */
export type JobProcessor = (job: TakenJob, lost: AbortSignal) => Promise<JobOutcome>;

export type JobOutcome =
  | { readonly kind: 'completed'; readonly result: JobResult }
  | { readonly kind: 'failed'; readonly failure: JobFailure }
  /** The job goes back in front of those that wait, as if it had not been taken. */
  | { readonly kind: 'handed-back' }
  /** The lock is lost, so the job is left as it is. */
  | { readonly kind: 'lost' };

export interface TakenJob {
  readonly jobId: string;
  /** The job as its producer wrote it. The reader must check it. */
  readonly data: unknown;
  /** Set if the worker must refuse the job, with the reason. */
  readonly refusal?: string;
}
