/** `POST /v1/rank`: candidates in the order of their value. */

import type { Endpoint } from '../endpoint.js';
import { rankedAnswer, RANKING_TYPES } from '../forms/received-ranking.js';

export const rankEndpoint: Endpoint = {
  method: 'POST',
  path: '/v1/rank',
  mediaTypes: RANKING_TYPES,
  answer: rankedAnswer,
};
