/** One digest for all meta-parameters: equal digests mean bit-equal values. */

import { createHash } from 'node:crypto';
import { digestOf } from '../tensors/named-tensors.js';
import { addToHash } from '../tensors/sha256.js';
import type { MetaParameters } from './initial-values.js';

/** SHA-256 over the dense variables' digest, then names, shapes and bytes of tables by name. */
export function metaParametersDigest(meta: MetaParameters): string {
  const hash = createHash('sha256').update(`${digestOf(meta.dense)}\n`);
  for (const name of [...meta.tables.keys()].sort()) {
    const table = meta.tables.get(name);
    if (table === undefined) continue;
    hash.update(`${name}[${table.rowCount},${table.width}]\n`);
    addToHash(hash, table.values);
  }
  return hash.digest('hex');
}
