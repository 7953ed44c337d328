/** `POST /v1/rank`: candidates in the order of their value. */

import { RankAnswerSchema } from '../answer-schemas.js';
import type { Endpoint } from '../endpoint.js';
import { rankedAnswer, RANKING_TYPES } from '../forms/received-ranking.js';
import { RANK_PATH } from '../forms/warm-up.js';
import { RankingRequestSchema } from '../ranking-body.js';
import { exampleRanking } from '../forms/example-requests.js';

export const rankEndpoint = {
  method: 'POST',
  path: RANK_PATH,
  isRecorded: true,
  description: {
    summary: 'candidates in the order of their value',
    request: { name: 'RankingRequest', schema: RankingRequestSchema },
    answer: { name: 'RankAnswer', schema: RankAnswerSchema },
    example: exampleRanking,
  },
  mediaTypes: RANKING_TYPES,
  answer: rankedAnswer,
} satisfies Endpoint;
