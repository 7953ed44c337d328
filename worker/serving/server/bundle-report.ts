/** What a server says of the bundle that it serves. */

import type { BundleKeeper } from './bundle-keeper.js';

/** @param requests counts of the server. */
export function bundleReport(keeper: BundleKeeper, requests: object): object {
  const { current, refused, swapCount, name } = keeper;
  const { manifest, encoder, selfCheck } = current.loaded;
  return {
    bundle: current.digest,
    label: name,
    scorer: { name: current.choice.name, reasonNotKernel: current.choice.reason },
    run: manifest.provenance.run,
    model: manifest.model.kind,
    method: manifest.method.kind,
    adgroups: manifest.blocks.count - 1,
    encoding: manifest.blocks.encoding,
    taskColumns: manifest.taskColumns,
    features: manifest.features.map((feature) => ({
      ...{ name: feature.name, kind: feature.kind },
      ...('expression' in feature && feature.expression !== undefined
        ? { expression: feature.expression }
        : { column: ('column' in feature ? feature.column : undefined) ?? feature.name }),
    })),
    /** Values that the request must bring under the name of the feature. */
    broughtValues: encoder.broughtValues,
    selfCheckRows: selfCheck.blocks.length,
    swaps: swapCount,
    refused,
    requests,
  };
}
