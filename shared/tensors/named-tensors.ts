/** Dense tensors as plain typed arrays, outside any tensor library. */

import { createHash } from 'node:crypto';
import { addToHash } from './sha256.js';
import { nativeRows } from './native-rows.js';

export interface DenseTensor {
  /** `[]` for a scalar. */
  readonly shape: readonly number[];
  /** Row-major; its length is the product of `shape`. */
  readonly values: Float32Array;
}

export type NamedTensors = ReadonlyMap<string, DenseTensor>;

export function elementCountOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Names and shapes. */
export type TensorLayout = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/** Sentences about tensors whose presence or shape differs; empty if there is no difference. */
export function layoutDifferences(found: TensorLayout, expected: TensorLayout): string[] {
  const differences: string[] = [];
  for (const [name, { shape }] of expected) {
    const other = found.get(name);
    if (other === undefined) differences.push(`${name} is missing`);
    else if (other.shape.join() !== shape.join())
      differences.push(`${name} is [${other.shape.join(', ')}], not [${shape.join(', ')}]`);
  }
  for (const name of found.keys()) if (!expected.has(name)) differences.push(`${name} is unknown`);
  return differences;
}

/** SHA-256 over names, shapes and bytes in order of name: equal digests mean bit-equal tensors. */
export function digestOf(tensors: NamedTensors): string {
  const hash = createHash('sha256');
  for (const name of [...tensors.keys()].sort()) {
    const tensor = tensors.get(name);
    if (tensor === undefined) continue;
    hash.update(`${name}[${tensor.shape.join()}]\n`);
    addToHash(hash, tensor.values);
  }
  return hash.digest('hex');
}

export type Initialisation =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'normal'; readonly deviation: number }
  /** In [-bound, bound]. */
  | { readonly kind: 'uniform'; readonly bound: number };

export interface Variable {
  /** `layer0.weight`, `output.bias`, `bias`, ... */
  readonly name: string;
  readonly shape: readonly number[];
  /**
   * `trunk` and `personal` belong to the model. A `method` variable is learned by a method in addition to
   * the model (inner rates, gates, ...). All tasks share it, and it is never pulled towards 0.
   */
  readonly block: 'trunk' | 'personal' | 'method';
  readonly initial: Initialisation;
  /** No outer step changes it. */
  readonly isFixed?: true;
}

export interface EmbeddingTable {
  readonly rowCount: number;
  readonly width: number;
  /** Row-major `[rowCount, width]`. */
  readonly values: Float32Array;
}

/** Copies the rows `ids` into `target` from row `targetRow` on. */
export function gatherRows(
  table: EmbeddingTable,
  ids: Int32Array,
  target: Float32Array,
  targetRow: number,
): void {
  const { width, values, rowCount } = table;
  let to = targetRow * width;
  if (to + ids.length * width > target.length)
    throw new RangeError(`${ids.length} rows do not fit behind row ${targetRow}`);
  const native = nativeRows();
  if (native !== null && width > 0) {
    native.gather(values, width, ids, target, to);
    return;
  }
  for (const id of ids) {
    if (id < 0 || id >= rowCount) throw new RangeError(`there is no row ${id} among ${rowCount}`);
    // A view on each row would cost more than its copy.
    let from = id * width;
    for (const end = from + width; from < end; from += 1, to += 1) target[to] = values[from] ?? NaN;
  }
}
