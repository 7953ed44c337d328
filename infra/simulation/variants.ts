/** How a simulated run differs from seed to seed, apart from its faults. The draw of faults does not depend on it. */

import { createSecretKey } from 'node:crypto';
import { randomStream } from '../../shared/base/random.js';
import type { JobQueue } from '../../shared/queue/job-queue.js';
import { signedJobQueue } from '../../shared/signing/signed-job-queue.js';

export interface Variant {
  /** Outer steps overlap, so that the run has another digest. */
  readonly overlaps: boolean;
  readonly isSigned: boolean;
  /** The config names the fingerprint; otherwise the first result decides. */
  readonly demandsFingerprint: boolean;
  /** Stragglers have copies. */
  readonly hasCopies: boolean;
  /** The rule by which outer steps close. With another than `all`, the digest depends on timing. */
  readonly closing: 'all' | 'quorum' | 'deadline';
  /** Parameters travel as float16 and gradients as int8, so that the run has another digest. */
  readonly isRounded: boolean;
  /** Outer steps have two jobs of several micro-batches, which travel in parts where three workers compute. */
  readonly hasParts: boolean;
}

const KEY = createSecretKey('the key of a simulated pool of workers', 'utf8');

const EARLY_CLOSINGS = ['quorum', 'deadline'] as const;
/** Of so many runs whose outer steps do not overlap, one has the one rule and one the other. */
const EARLY_ONE_IN = 6;

const ROUNDED_ONE_IN = 4;
const PARTS_ONE_IN = 3;

export function variantOf(seed: number): Variant {
  const stream = randomStream(seed, 'simulated variant');
  const isDrawn = (): boolean => stream.below(2) === 1;
  const drawn = {
    overlaps: isDrawn(),
    isSigned: isDrawn(),
    demandsFingerprint: isDrawn(),
    hasCopies: isDrawn(),
  };
  const drawnClosing = EARLY_CLOSINGS[stream.below(EARLY_ONE_IN)] ?? 'all';
  const closing = drawn.overlaps ? 'all' : drawnClosing;
  const isRounded = stream.below(ROUNDED_ONE_IN) === 0;
  const isDrawnForParts = stream.below(PARTS_ONE_IN) === 0;
  const hasParts = isDrawnForParts && closing === 'all' && !isRounded;
  return { ...drawn, closing, isRounded, hasParts };
}

/** The queue as the processes of the variant use it. */
export function queueOf({ isSigned }: Variant, queue: JobQueue): JobQueue {
  return isSigned ? signedJobQueue(queue, KEY) : queue;
}

export function describedVariant(variant: Variant): string {
  const { overlaps, isSigned, demandsFingerprint, hasCopies, closing, isRounded, hasParts } =
    variant;
  const parts = [
    ...(overlaps ? ['outer steps overlap'] : []),
    ...(isSigned ? ['records are signed'] : []),
    ...(demandsFingerprint ? ['the fingerprint is demanded'] : []),
    ...(hasCopies ? ['stragglers have copies'] : []),
    ...(closing === 'all' ? [] : [`outer steps close by ${closing}`]),
    ...(hasParts ? ['large jobs travel in parts'] : []),
    ...(isRounded ? ['tensors are rounded'] : []),
  ];
  return parts.length === 0 ? 'plain' : parts.join(', ');
}
