/** `GET /v1/dictionaries/{feature}`: the values of a dictionary, whose places are the ids of binary requests. */

import { uint32At } from '../../../../shared/base/arrays.js';
import { DictionarySchema } from '../answer-schemas.js';
import { jsonAnswer, type Endpoint } from '../endpoint.js';
import { RefusedRequest } from '../refused-request.js';

export const dictionaryEndpoint: Endpoint = {
  method: 'GET',
  path: '/v1/dictionaries/{feature}',
  description: {
    summary: 'the values of a dictionary, in the order of their ids',
    answer: {
      name: 'Dictionary',
      schema: DictionarySchema,
    },
    parameters: {
      feature: ({ loaded }) =>
        loaded.encoder.features.find(
          ({ kind, dictionary }) => kind === 'category' && dictionary !== null,
        )?.name ?? 'none',
    },
  },
  answer: ({ bundle, parameters }) => {
    const { features } = bundle.loaded.encoder;
    const feature = features.find(({ name }) => name === parameters['feature']);
    if (feature?.kind !== 'category' || feature.dictionary === null)
      throw new RefusedRequest({
        reason: 'no-such-path',
        what: 'the bundle has no feature of this name that looks its texts up in a dictionary',
        where: '/v1/dictionaries',
        found: parameters['feature'],
      });
    const { bytes, offsets } = feature.dictionary;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const values = Array.from({ length: offsets.length - 1 }, (_, id) =>
      id === 0 ? null : text.toString('utf8', uint32At(offsets, id), uint32At(offsets, id + 1)),
    );
    return jsonAnswer({ bundle: bundle.digest, values });
  },
};
