/** `GET /v1/bundle`: which bundle is served, what it reads, and what became of requests. */

import { adgroupCountOf } from '../../../../shared/bundle/bundle-manifest.js';
import { BundleReportSchema } from '../answer-schemas.js';
import { jsonAnswer, type Endpoint, type ServerView } from '../endpoint.js';

export const bundleEndpoint: Endpoint = {
  method: 'GET',
  path: '/v1/bundle',
  description: {
    summary: 'which bundle is served, what it reads, and what became of requests',
    answer: {
      name: 'BundleReport',
      schema: BundleReportSchema,
    },
  },
  answer: ({ server }) => jsonAnswer(bundleReport(server)),
};

function canaryReport({ canary }: ServerView): object | null {
  if (canary === null) return null;
  const { name: label, share, current, refused } = canary;
  return { bundle: current?.digest ?? null, label, share, refused };
}

function bundleReport(server: ServerView): object {
  const { current, refused, swapCount, name } = server.keeper;
  const { manifest, encoder, selfCheck } = current.loaded;
  return {
    bundle: current.digest,
    label: name,
    scorer: { name: current.choice.name, reasonNotKernel: current.choice.reason },
    arrays: server.keeper.arrays,
    processes: server.processes,
    run: manifest.provenance.run,
    model: manifest.model.kind,
    method: manifest.method.kind,
    adgroups: adgroupCountOf(manifest),
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
    canary: canaryReport(server),
    warmUp: current.warmUp,
    swaps: swapCount,
    refused,
    requests: server.requestReport(),
  };
}
