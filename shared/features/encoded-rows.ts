/** Encoded rows in the layout of the store's `TaskRows`: what a model batch is made of. */

import type { EncodedFeature } from '../tasks/store-manifest.js';

export interface EncodedRows {
  readonly rowCount: number;
  /** By category feature, in manifest order: `[rowCount]`. */
  readonly categoryIds: readonly Int32Array[];
  /** By bag feature, in manifest order: `[rowCount, lengthMax]`, -1 in empty places. */
  readonly bagIds: readonly Int32Array[];
  /** By number feature, in manifest order: `[rowCount]`. */
  readonly numbers: readonly Float32Array[];
}

/** Rows of zeros, to be encoded into and used again. */
export function allocateEncodedRows(
  features: readonly EncodedFeature[],
  rowCount: number,
): EncodedRows {
  const ofKind = <Kind extends EncodedFeature['kind']>(kind: Kind) =>
    features.filter(
      (feature): feature is Extract<EncodedFeature, { kind: Kind }> => feature.kind === kind,
    );
  return {
    rowCount,
    categoryIds: ofKind('category').map(() => new Int32Array(rowCount)),
    bagIds: ofKind('bag').map(({ lengthMax }) => new Int32Array(rowCount * lengthMax)),
    numbers: ofKind('number').map(() => new Float32Array(rowCount)),
  };
}

/** The values of one feature. @throws Error when the rows were allocated for other features. */
export function valuesAt<Values>(columns: readonly Values[], place: number): Values {
  const values = columns[place];
  if (values === undefined) throw new Error(`the encoded rows have no feature at place ${place}`);
  return values;
}
