/** Decodes the input blobs of a job and checks them against its model and tasks. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import {
  layoutDifferences,
  type DenseTensor,
  type TensorLayout,
} from '../../../shared/tensors/named-tensors.js';
import { floatsOf, viewTensors } from '../../../shared/tensors/tensor-codec.js';

/** Name of the tensor of table rows in row packs and frozen inputs. */
export const ROWS = 'rows';

export function variableLayout({ variables }: Pick<ModelSpec, 'variables'>): TensorLayout {
  return new Map(variables.map(({ name, shape }) => [name, { shape }]));
}

/**
 * Tensors whose values are views on the bytes where they can be.
 *
 * @throws QianmoError of kind `data` when a tensor is not of 32-bit floats.
 */
export function floatTensors(bytes: Uint8Array, where: string): Map<string, DenseTensor> {
  const coded = viewTensors(bytes, where);
  const tensors = floatsOf(coded);
  if (tensors !== null) return tensors;
  throw new QianmoError({
    kind: 'data',
    what: 'an input of a job has tensors that are not 32-bit floats',
    where,
    found: [...coded.keys()].join(', '),
    cure: 'coordinator and worker must run the same version',
  });
}

/** @throws QianmoError of kind `data` when names or shapes differ. */
export function requireLayout(found: TensorLayout, expected: TensorLayout, where: string): void {
  const differences = layoutDifferences(found, expected);
  if (differences.length === 0) return;
  throw new QianmoError({
    kind: 'data',
    what: 'the tensors of a job do not fit its model and tasks',
    where,
    found: differences.join('; '),
    cure: 'coordinator and worker must run the same version on the same store',
  });
}
