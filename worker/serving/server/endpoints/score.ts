/** `POST /v1/score`: what the bundle says of candidates, in no order. */

import { scoreAnswer, selected } from '../answers.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { parseRankingBody } from '../ranking-body.js';

export const scoreEndpoint: Endpoint = {
  method: 'POST',
  path: '/v1/score',
  mediaTypes: [JSON_TYPE],
  answer: ({ bundle, body }) => {
    const parsed = parseRankingBody(body);
    return jsonAnswer(selected(scoreAnswer(bundle, parsed), parsed.fields));
  },
};
