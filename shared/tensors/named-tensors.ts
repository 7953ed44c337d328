/** Dense tensors as plain typed arrays, outside any tensor library. */

import { createHash } from 'node:crypto';
import { addToHash } from './sha256.js';

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
