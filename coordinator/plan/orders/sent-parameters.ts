/**
 * The parameters of an outer step as they are sent: as they are, or rounded. The same config gives the same
 * bytes, for any number of workers and after a resume (decision 0046).
 */

import { randomStream } from '../../../shared/base/random.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import type { DenseTensor, NamedTensors } from '../../../shared/tensors/named-tensors.js';
import { encodeRounded, floatsOf, NEAREST } from '../../../shared/tensors/rounded-tensors.js';
import { viewTensors } from '../../../shared/tensors/tensor-codec.js';
import { encodeDense } from '../row-pack-gather.js';
import type { PackOf } from './step-orders.js';

interface SentDense {
  readonly bytes: Uint8Array;
  /** The remainder that rounding took from each variable, to be added when it is sent next; absent without rounding. */
  readonly remainders?: NamedTensors;
}

/**
 * Error feedback (Seide et al. 2014): the remainders of what was sent before are added first, so that what workers have seen
 * over many outer steps has the mean of the parameters, however small their changes are.
 *
 * @param remainders those of the outer step that was sent before; undefined at the first.
 * @param names all dense variables if undefined.
 */
export function sentDense(
  meta: Pick<MetaParameters, 'dense'>,
  encodings: RunConfig['training']['encodings'],
  remainders: NamedTensors | undefined,
  names?: readonly string[],
): SentDense {
  const encoding = encodings?.parameters ?? 'float32';
  if (encoding === 'float32') return { bytes: encodeDense(meta, names) };
  const wanted = new Map<string, DenseTensor>();
  for (const name of names ?? meta.dense.keys()) {
    const tensor = meta.dense.get(name);
    if (tensor === undefined) throw new Error(`the meta-parameters have no ${name}`);
    wanted.set(name, combined(tensor, remainders?.get(name), 1));
  }
  const bytes = encodeRounded(wanted, encoding, NEAREST);
  const sent = floatsOf(viewTensors(bytes, 'dense'));
  const left = [...wanted].map(([name, tensor]): [string, DenseTensor] => [
    name,
    combined(tensor, sent?.get(name), -1),
  ]);
  return { bytes, remainders: new Map(left) };
}

/** One tensor plus or minus another, value by value. */
function combined(
  { shape, values }: DenseTensor,
  other: DenseTensor | undefined,
  sign: 1 | -1,
): DenseTensor {
  if (other === undefined) return { shape, values };
  return {
    shape,
    values: values.map((value, index) => value + sign * (other.values[index] ?? NaN)),
  };
}

/**
 * Row packs whose values are rounded up or down at random, by a stream of each job. A remainder for each row would be
 * one more table.
 */
export function sentPacks(
  packOf: PackOf,
  outerStep: number,
  { seed, training: { encodings } }: Pick<RunConfig, 'seed' | 'training'>,
): PackOf {
  const encoding = encodings?.parameters ?? 'float32';
  if (encoding === 'float32') return packOf;
  return (jobIndex) => {
    const rows = floatsOf(viewTensors(packOf(jobIndex), 'row pack'));
    if (rows === null) throw new Error('row packs are gathered as 32-bit floats');
    const stream = randomStream(seed, 'row rounding', outerStep, jobIndex);
    return encodeRounded(rows, encoding, () => stream.uniform());
  };
}
