/** Seeded initial values: one random stream per variable and table, so that adding one changes no other. */

import { randomStream } from '../base/random.js';
import {
  elementCountOf,
  type EmbeddingTable,
  type DenseTensor,
  type Initialisation,
  digestOf,
  type NamedTensors,
} from '../tensors/named-tensors.js';
import type { ModelSpec } from './model-spec.js';
import { createHash, type Hash } from 'node:crypto';
import { addToHash } from '../tensors/sha256.js';

export interface MetaParameters {
  /** Trunk and initial personal blocks by variable name, in the order of the spec. */
  readonly dense: ReadonlyMap<string, DenseTensor>;
  /** Embedding tables by feature name, in the order of the spec. */
  readonly tables: ReadonlyMap<string, EmbeddingTable>;
}

export function initialMetaParameters(spec: ModelSpec, seed: number): MetaParameters {
  const tables = new Map<string, EmbeddingTable>();
  const width = spec.tableRowWidth;
  for (const table of spec.tables) {
    const { name, rowCount } = table;
    const values = initialRows(spec, table, seed);
    copyUnknownRow({ width, values }, table.unknownCopyCount ?? 0);
    tables.set(name, { rowCount, width, values });
  }
  return { dense: initialDense(spec, seed), tables };
}

function initialDense(spec: Pick<ModelSpec, 'variables'>, seed: number): Map<string, DenseTensor> {
  const dense = new Map<string, DenseTensor>();
  for (const { name, shape, initial } of spec.variables) {
    const values = new Float32Array(elementCountOf(shape));
    fill(values, initial, drawOf(initial, seed, 'variable', name));
    dense.set(name, { shape, values });
  }
  return dense;
}

function initialRows(
  { tableRowWidth: width, hasLinear }: ModelSpec,
  { name, initial, rowCount }: ModelSpec['tables'][number],
  seed: number,
): Float32Array {
  const values = new Float32Array(rowCount * width);
  fill(values, initial, drawOf(initial, seed, 'table', name));
  // Linear weights start at 0.
  if (hasLinear) for (let end = width - 1; end < values.length; end += width) values[end] = 0;
  return values;
}

/** Writes row 0 to the rows from 1 to `count`. */
export function copyUnknownRow(
  { width, values }: Pick<EmbeddingTable, 'width' | 'values'>,
  count: number,
): void {
  for (let row = 1; row <= count; row += 1) values.copyWithin(row * width, 0, width);
}

/** Null if all values are the same. */
function drawOf(
  initial: Initialisation,
  seed: number,
  ...purpose: string[]
): (() => number) | null {
  if (initial.kind === 'zeros' || initial.kind === 'constant') return null;
  const stream = randomStream(seed, 'initial', ...purpose);
  return initial.kind === 'normal'
    ? (): number => stream.normal() * initial.deviation
    : (): number => (2 * stream.uniform() - 1) * initial.bound;
}

function fill(values: Float32Array, initial: Initialisation, draw: (() => number) | null): void {
  if (draw === null) {
    if (initial.kind === 'constant') values.fill(initial.value);
    return;
  }
  for (let index = 0; index < values.length; index += 1) values[index] = draw();
}

/** SHA-256 over the dense variables' digest, then names, shapes and bytes of tables by name. */
export function metaParametersDigest(meta: MetaParameters): string {
  const hash = hashAfterDense(meta.dense);
  for (const name of [...meta.tables.keys()].sort()) {
    const table = meta.tables.get(name);
    if (table === undefined) continue;
    hash.update(tableLine(name, table.rowCount, table.width));
    addToHash(hash, table.values);
  }
  return hash.digest('hex');
}

/** The digest before any table: the tables follow in order of names, each as its line and its values. */
export function hashAfterDense(dense: NamedTensors): Hash {
  return createHash('sha256').update(`${digestOf(dense)}\n`);
}

export function tableLine(name: string, rowCount: number, width: number): string {
  return `${name}[${rowCount},${width}]\n`;
}
