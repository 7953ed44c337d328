/**
 * The interface between deciding and carrying. The outer loop and the evaluation hand over jobs and
 * receive results; they know no queue. Two implementations: `dispatch/queue-dispatcher.ts` (BullMQ)
 * and `dispatch/in-memory-dispatcher.ts` (local executors).
 */

import type { REJECTIONS } from '../../shared/names/event-terms.js';
import type { RunProgress } from '../../shared/storage/lease.js';
import type { JobResult, LargeBlobs, CarriedJob } from '../../shared/queue/protocol.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import type { LeafRange } from '../../shared/sums/sum-tree.js';

/** A job without what its dispatcher fills in. */
type OrderedJob = Omit<CarriedJob, 'epoch' | 'dense' | 'rowPack' | 'frozen' | 'largeBlobs'>;

/** A job with its input bytes. The dispatcher fills in the blob references. */
export interface JobOrder {
  readonly job: OrderedJob;
  /** Safetensors bytes; the same array object for every job of an outer step. */
  readonly dense: Uint8Array;
  /** Null where the frozen blob holds the tables. */
  readonly rowPack: Uint8Array | null;
  /** The same array object for every job of a run; null where nothing is frozen. */
  readonly frozen: Uint8Array | null;
  /** The jobs whose sums a join adds, as nodes of the tree. It is sent when they are in the store. */
  readonly parts?: readonly (LeafRange & { readonly jobIndex: number })[];
  /** Called when a result counts, so that the order can drop inputs that it can make again. */
  settled?(): void;
}

/** The part of a job that its dispatcher knows. */
interface JobStamp {
  readonly epoch: number;
  /** The kind of machine that must compute it; null for any. */
  readonly fingerprint: string | null;
  readonly largeBlobs?: LargeBlobs | undefined;
  /** The blob with the sums of a part, which are there. */
  readonly sumsOf?: (jobIndex: number) => BlobRef | null | undefined;
}

export function jobOf(
  order: JobOrder,
  refOf: (bytes: Uint8Array) => BlobRef,
  { epoch, largeBlobs, fingerprint, sumsOf }: JobStamp = { epoch: 0, fingerprint: null },
): CarriedJob {
  const { job, dense, rowPack, frozen, parts = [] } = order;
  const nodes = parts.flatMap(({ jobIndex, ...node }) => {
    const sum = sumsOf?.(jobIndex) ?? null;
    return sum === null ? [] : [{ ...node, sum }];
  });
  return {
    ...job,
    ...(job.work.kind === 'join' ? { work: { ...job.work, nodes } } : {}),
    epoch,
    ...(fingerprint === null ? {} : { fingerprint }),
    ...(largeBlobs === undefined ? {} : { largeBlobs }),
    dense: refOf(dense),
    ...(rowPack === null ? {} : { rowPack: refOf(rowPack) }),
    ...(frozen === null ? {} : { frozen: refOf(frozen) }),
  };
}

export interface DeliveredResult {
  readonly result: JobResult;
  readonly output: Uint8Array;
}

/** The reason why a delivered result cannot be used. It is counted, and the job is tried again. */
export type Rejection = (typeof REJECTIONS)[number];

/**
 * Reads the output of a job, or gives the reason why it cannot be used. A dispatcher calls it only
 * with a result that belongs to an open job of the step and came with all its bytes.
 */
export type ReadResult<Value extends object> = (delivered: DeliveredResult) => Value | Rejection;

export interface Admitted<Value extends object> {
  readonly result: JobResult;
  readonly value: Value;
}

/** How a run tells those who look at its queue how far it is. */
interface RunControl {
  /** The run of the lease. Work under another name must not speak for it. */
  readonly runId: string;
  /**
   * Says how far training is. It is told with the next renewal of the lease.
   *
   * @param isOver whether training has ended: then the run cannot be cancelled any more
   */
  tell(training: RunProgress['training'], isOver: boolean): void;
}

export interface Dispatcher {
  /**
   * Sends jobs, and yields admitted results in order of arrival, one for each order. Retries,
   * lost jobs and lost blobs are the dispatcher's own business. Jobs may leave before the results are read, so the
   * caller must read them, or abort the signal and read the failure: then the jobs are taken back.
   *
   * @param attemptsMax in place of `queue.jobAttemptsMax`
   * @throws QianmoError `failed` when a job used up its attempts, `transient` when the time limit
   *   passed, `interrupted` when the signal aborted, `cancelled` when the run was.
   */
  run<Value extends object>(
    orders: readonly JobOrder[],
    read: ReadResult<Value>,
    signal: AbortSignal,
    attemptsMax?: number,
  ): AsyncIterable<Admitted<Value>>;
  readonly rejections: ReadonlyMap<Rejection, number>;
  /**
   * The number of jobs that can be computed at once. With a queue, this is the most recent count of workers; 0 until
   * the first one.
   */
  executorCount?(): number;
  /** Whether orders may be joins of sums that stay in the store. */
  readonly joinsSums?: boolean;
  /** Absent without a queue. */
  readonly control?: RunControl;
  close(): Promise<void>;
}
