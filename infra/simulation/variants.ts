/** How a simulated run differs from seed to seed, apart from its faults. The draw of faults does not depend on it. */

import { createSecretKey } from 'node:crypto';
import { randomStream } from '../../shared/base/random.js';
import { queueWithLargeBlobs } from '../../shared/queue/large-blobs.js';
import type { JobQueue } from '../../shared/queue/job-queue.js';
import { signedJobQueue } from '../../shared/queue/signed-job-queue.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';

export interface Variant {
  /** Outer steps overlap, so that the run has another digest. */
  readonly overlaps: boolean;
  readonly isSigned: boolean;
  /** The config names the fingerprint; otherwise the first result decides. */
  readonly demandsFingerprint: boolean;
  /** Stragglers have copies. */
  readonly hasCopies: boolean;
  /** The number of leaves, and of tasks, of an outer step. */
  readonly leavesPerStep: number;
  /** The first worker takes seconds for each job. */
  readonly hasStraggler: boolean;
  /** Most blobs are in an object store, which answers later than the queue's server. */
  readonly hasLargeBlobs: boolean;
  /** Training ends when validation losses stop falling. */
  readonly stopsEarly: boolean;
  /** Calls of the object store of the checkpoints are repeated while it is away. */
  readonly waitsForStore: boolean;
}

/** Of so many leaves, each takes a second and is a job of its own. */
const FEW_LEAVES = 8;
/** Far more jobs than a coordinator sends at once. */
const MANY_LEAVES = 64;
const MANY_LEAVES_ONE_IN = 12;
const STRAGGLER_ONE_IN = 6;
const LARGE_BLOBS_ONE_IN = 4;

const KEY = createSecretKey('the key of a simulated pool of workers', 'utf8');

export function variantOf(seed: number): Variant {
  const stream = randomStream(seed, 'simulated variant');
  const isDrawn = (): boolean => stream.below(2) === 1;
  const drawn = {
    overlaps: isDrawn(),
    isSigned: isDrawn(),
    demandsFingerprint: isDrawn(),
    hasCopies: isDrawn(),
  };
  const isOneIn = (count: number): boolean => stream.below(count) === 0;
  const isLarge = isOneIn(MANY_LEAVES_ONE_IN);
  const [hasStraggler, hasLargeBlobs] = [isOneIn(STRAGGLER_ONE_IN), isOneIn(LARGE_BLOBS_ONE_IN)];
  const stopsEarly = isDrawn() && !drawn.overlaps;
  return {
    ...{ ...drawn, leavesPerStep: isLarge ? MANY_LEAVES : FEW_LEAVES },
    ...{ hasStraggler, hasLargeBlobs, stopsEarly, waitsForStore: isDrawn() },
  };
}

/** The queue as the controllers of the variant use it. */
export function signedQueueOf({ isSigned }: Pick<Variant, 'isSigned'>, queue: JobQueue): JobQueue {
  return isSigned ? signedJobQueue(queue, KEY) : queue;
}

/** The queue as the processes of the variant use it. */
export function queueOf(variant: Variant, queue: JobQueue, largeBlobs: ObjectStore): JobQueue {
  return queueWithLargeBlobs(signedQueueOf(variant, queue), () => largeBlobs);
}

export function describedVariant(variant: Variant): string {
  const { overlaps, isSigned, demandsFingerprint, hasCopies, leavesPerStep } = variant;
  const parts = [
    ...(overlaps ? ['outer steps overlap'] : []),
    ...(isSigned ? ['records are signed'] : []),
    ...(demandsFingerprint ? ['the fingerprint is demanded'] : []),
    ...(hasCopies ? ['stragglers have copies'] : []),
    ...(leavesPerStep === FEW_LEAVES ? [] : [`an outer step has ${leavesPerStep} leaves`]),
    ...(variant.hasStraggler ? ['a worker is slow'] : []),
    ...(variant.hasLargeBlobs ? ['large blobs are elsewhere'] : []),
    ...(variant.stopsEarly ? ['training may stop early'] : []),
    ...(variant.waitsForStore ? ['coordinators wait for the store'] : []),
  ];
  return parts.length === 0 ? 'plain' : parts.join(', ');
}
