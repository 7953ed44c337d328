/** `POST /v1/score`: what the bundle says of candidates, in no order. */

import { ScoreAnswerSchema } from '../answer-schemas.js';
import type { Endpoint } from '../endpoint.js';
import { scoredAnswer, RANKING_TYPES } from '../forms/received-ranking.js';
import { SCORE_PATH } from '../forms/warm-up.js';
import { RankingRequestSchema } from '../ranking-body.js';
import { exampleRanking } from '../forms/example-requests.js';

export const scoreEndpoint = {
  method: 'POST',
  path: SCORE_PATH,
  isRecorded: true,
  description: {
    summary: 'what the bundle says of candidates',
    request: { name: 'RankingRequest', schema: RankingRequestSchema },
    answer: { name: 'ScoreAnswer', schema: ScoreAnswerSchema },
    example: exampleRanking,
  },
  mediaTypes: RANKING_TYPES,
  answer: scoredAnswer,
} satisfies Endpoint;
