/** `POST /v1/score`: what the bundle says of candidates, in no order. */

import type { Endpoint } from '../endpoint.js';
import { scoredAnswer, RANKING_TYPES } from '../forms/received-ranking.js';
import { SCORE_PATH } from '../forms/warm-up.js';

export const scoreEndpoint: Endpoint = {
  method: 'POST',
  path: SCORE_PATH,
  isRecorded: true,
  mediaTypes: RANKING_TYPES,
  answer: scoredAnswer,
};
