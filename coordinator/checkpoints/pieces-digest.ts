/**
 * The digest of meta-parameters that follows from a manifest: over the digests of the pieces of tables and
 * not over their values. Equal digests mean bit-equal values, for tables that are divided alike.
 */

import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { hashAfterDense, tableLine } from '../../shared/models/meta-parameters-digest.js';
import type { StoredTable } from './checkpoint-manifest.js';

/** SHA-256 over the dense variables' digest, then names, shapes and pieces of tables by name. */
export function piecesDigest(dense: NamedTensors, tables: readonly StoredTable[]): string {
  const hash = hashAfterDense(dense);
  const byName = [...tables].sort((first, second) => (first.name < second.name ? -1 : 1));
  for (const { name, rowCount, width, pieces } of byName) {
    hash.update(tableLine(name, rowCount, width));
    for (const { firstRow, blob } of pieces) hash.update(`${firstRow} ${blob.sha256}\n`);
  }
  return hash.digest('hex');
}
