/** `POST /v1/score`: what the bundle says of candidates, in no order. */

import { scoreAnswer } from '../answers.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { parseRankingBody } from '../ranking-body.js';

export const scoreEndpoint: Endpoint = {
  method: 'POST',
  path: '/v1/score',
  mediaTypes: [JSON_TYPE],
  answer: ({ bundle, body }) => jsonAnswer(scoreAnswer(bundle, parseRankingBody(body))),
};
