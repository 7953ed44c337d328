/** The endpoints of every server. Those that need more than a bundle are added where the server starts. */

import { uint32At } from '../../../../shared/base/arrays.js';
import { adgroupCountOf } from '../../../../shared/bundle/bundle-manifest.js';
import type { PackedDictionary } from '../../../../shared/features/packed-dictionary.js';
import { JSON_TYPE, jsonAnswer, type Answer, type Endpoint, type ServerView } from '../endpoint.js';
import { rankedAnswer, RANKING_TYPES, scoredAnswer } from '../answer-forms.js';
import { RefusedRequest, refusalOf } from '../refused-request.js';

export const rankEndpoint = {
  method: 'POST',
  path: '/v1/rank',
  mediaTypes: RANKING_TYPES,
  answer: rankedAnswer,
} satisfies Endpoint;

const scoreEndpoint: Endpoint = {
  method: 'POST',
  path: '/v1/score',
  mediaTypes: RANKING_TYPES,
  answer: scoredAnswer,
};

const liveEndpoint: Endpoint = {
  method: 'GET',
  path: '/health/live',
  isOpen: true,
  answer: () => jsonAnswer({ status: 'live' }),
};

/** The server listens once its bundle is checked, so that only a server that stops is not ready. */
const readyEndpoint: Endpoint = {
  method: 'GET',
  path: '/health/ready',
  isOpen: true,
  answer: ({ server: { isDraining, processes } }) => {
    if (!isDraining)
      return jsonAnswer({ status: 'ready', ...(processes === null ? {} : { processes }) });
    throw refusalOf('draining', 'the server is stopping', { cure: 'ask another server' });
  },
};

const bundleEndpoint: Endpoint = {
  method: 'GET',
  path: '/v1/bundle',
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
    // Every server has the kernel and maps its files; older clients read both fields.
    scorer: { name: current.scorerName, reasonNotKernel: null },
    arrays: 'mapped',
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
    swaps: swapCount,
    refused,
    requests: server.requestReport(),
  };
}

/** The values of a dictionary, whose places are the ids of binary requests. */
const dictionaryEndpoint: Endpoint = {
  method: 'GET',
  path: '/v1/dictionaries/{feature}',
  answer: ({ bundle, parameter }) => {
    const { features } = bundle.loaded.encoder;
    const feature = features.find(({ name }) => name === parameter);
    if (feature?.kind !== 'category' || feature.dictionary === null)
      throw new RefusedRequest({
        reason: 'no-such-path',
        what: 'the bundle has no feature of this name that looks its texts up in a dictionary',
        where: '/v1/dictionaries',
        found: parameter,
      });
    return dictionaryAnswer(bundle.digest, feature.dictionary);
  },
};

/** Values that are written at a time: a few milliseconds, between which others are answered. */
const VALUES_AT_A_TIME = 10_000;

async function dictionaryAnswer(
  digest: string,
  { bytes, offsets }: PackedDictionary,
): Promise<Answer> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = [Buffer.from(`{"bundle":"${digest}","values":[null`)];
  for (let id = 1; id < offsets.length - 1;) {
    const values: string[] = [];
    for (; id < offsets.length - 1 && values.length < VALUES_AT_A_TIME; id += 1)
      values.push(text.toString('utf8', uint32At(offsets, id), uint32At(offsets, id + 1)));
    parts.push(Buffer.from(`,${JSON.stringify(values).slice(1, -1)}`));
    await new Promise((resolve) => setImmediate(resolve));
  }
  return { mediaType: JSON_TYPE, content: Buffer.concat([...parts, Buffer.from(']}')]) };
}

export const rankingEndpoints: readonly Endpoint[] = [
  rankEndpoint,
  scoreEndpoint,
  bundleEndpoint,
  dictionaryEndpoint,
  liveEndpoint,
  readyEndpoint,
];
