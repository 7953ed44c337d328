/** One digest for all meta-parameters: equal digests mean bit-equal values. */

import { createHash, type Hash } from 'node:crypto';
import { digestOf, type NamedTensors } from '../tensors/named-tensors.js';
import { addToHash } from '../tensors/sha256.js';
import type { MetaParameters } from './initial-values.js';

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
