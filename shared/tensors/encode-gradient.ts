/** The output blob of a gradient job, in the encoding that its work names. */

import { randomStream } from '../base/random.js';
import type { NamedTensors } from './named-tensors.js';
import { encodeRounded, type ROUNDED_ENCODINGS } from './rounded-tensors.js';
import { encodeTensors } from './tensor-codec.js';

interface GradientEncoding {
  readonly kind: (typeof ROUNDED_ENCODINGS)[number];
  readonly seed: number;
}

/**
 * Rounded up or down at random by a stream of the job, so that the mean is kept, and whoever computes the job,
 * however often, gives the same bits.
 */
export function encodeGradient(
  tensors: NamedTensors,
  { outerStep, jobIndex }: { readonly outerStep: number; readonly jobIndex: number },
  { encoding }: { readonly encoding?: GradientEncoding | undefined },
): Uint8Array {
  if (encoding === undefined) return encodeTensors(tensors);
  const stream = randomStream(encoding.seed, 'gradient rounding', outerStep, jobIndex);
  return encodeRounded(tensors, encoding.kind, () => stream.uniform());
}
