/** Seeded initial values: one random stream per variable and table, so that adding one changes no other. */

import { randomStream } from '../base/random.js';
import type { EmbeddingTable } from '../tensors/embedding-table.js';
import { elementCountOf, type DenseTensor } from '../tensors/named-tensors.js';
import type { ModelSpec } from './model-spec.js';
import type { Initialisation } from '../tensors/variable.js';

export interface MetaParameters {
  /** Trunk and initial personal blocks by variable name, in the order of the spec. */
  readonly dense: ReadonlyMap<string, DenseTensor>;
  /** Embedding tables by feature name, in the order of the spec. */
  readonly tables: ReadonlyMap<string, EmbeddingTable>;
}

export function initialMetaParameters(spec: ModelSpec, seed: number): MetaParameters {
  const dense = new Map<string, DenseTensor>();
  for (const { name, shape, initial } of spec.variables) {
    const values = initialValues(elementCountOf(shape), initial, seed, 'variable', name);
    dense.set(name, { shape, values });
  }
  const tables = new Map<string, EmbeddingTable>();
  const width = spec.tableRowWidth;
  for (const { name, rowCount, initial } of spec.tables) {
    const values = initialValues(rowCount * width, initial, seed, 'table', name);
    // Linear weights start at 0.
    if (spec.hasLinear)
      for (let end = width - 1; end < values.length; end += width) values[end] = 0;
    tables.set(name, { rowCount, width, values });
  }
  return { dense, tables };
}

function initialValues(
  count: number,
  initial: Initialisation,
  seed: number,
  ...purpose: string[]
): Float32Array {
  const values = new Float32Array(count);
  if (initial.kind === 'zeros') return values;
  if (initial.kind === 'constant') return values.fill(initial.value);
  const stream = randomStream(seed, 'initial', ...purpose);
  const draw =
    initial.kind === 'normal'
      ? (): number => stream.normal() * initial.deviation
      : (): number => (2 * stream.uniform() - 1) * initial.bound;
  for (let index = 0; index < count; index += 1) values[index] = draw();
  return values;
}
