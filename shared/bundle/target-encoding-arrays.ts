/** Reads the target encodings of a bundle. */

import type { EncodedFeature } from '../tasks/store-manifest.js';
import {
  targetEncodingNameOf,
  targetEncodingsIn,
  type TargetEncoding,
} from '../tasks/target-encoding.js';
import type { BundleArrays } from './array-files.js';

/** By name of the encoding, as `targetEncodingNameOf` gives it. */
export async function targetEncodingsOf(
  encodedFeatures: readonly EncodedFeature[],
  arrays: BundleArrays,
): Promise<Map<string, TargetEncoding>> {
  const found = new Map<string, TargetEncoding>();
  for (const categories of targetEncodingsIn(encodedFeatures)) {
    const name = targetEncodingNameOf(categories);
    const shape = arrays.shapeOf(`${name}.rates`);
    const ids: Int32Array[] = [];
    for (const place of categories.keys())
      ids.push(await arrays.int32(`${name}.ids${place}`, shape));
    found.set(name, {
      ids,
      rates: await arrays.float32(`${name}.rates`, shape),
      counts: await arrays.float32(`${name}.counts`, shape),
    });
  }
  return found;
}
