/** `POST /v1/score`: what the bundle says of candidates, in no order. */

import type { Endpoint } from '../endpoint.js';
import { scoredAnswer, RANKING_TYPES } from '../forms/received-ranking.js';

export const scoreEndpoint: Endpoint = {
  method: 'POST',
  path: '/v1/score',
  mediaTypes: RANKING_TYPES,
  answer: scoredAnswer,
};
