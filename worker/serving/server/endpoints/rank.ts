/** `POST /v1/rank`: candidates in the order of their value. */

import type { Endpoint } from '../endpoint.js';
import { rankedAnswer, RANKING_TYPES } from '../forms/received-ranking.js';
import { RANK_PATH } from '../forms/warm-up.js';

export const rankEndpoint: Endpoint = {
  method: 'POST',
  path: RANK_PATH,
  isRecorded: true,
  mediaTypes: RANKING_TYPES,
  answer: rankedAnswer,
};
