/** The endpoints of every server. Those that need more than a bundle are added where the server starts. */

import { z } from 'zod';
import { RankAnswerSchema, ScoreAnswerSchema } from '../answer-schemas.js';
import { jsonAnswer, type Endpoint } from '../endpoint.js';
import { exampleRanking } from '../forms/example-requests.js';
import { rankedAnswer, RANKING_TYPES, scoredAnswer } from '../forms/received-ranking.js';
import { RANK_PATH, SCORE_PATH } from '../forms/warm-up.js';
import { RankingRequestSchema } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import { bundleEndpoint, dictionaryEndpoint } from './bundle.js';
import { openapiEndpoint } from './openapi.js';

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

const scoreEndpoint = {
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

const HEALTH = { name: 'Health', schema: z.looseObject({ status: z.string() }) };

const liveEndpoint: Endpoint = {
  method: 'GET',
  path: '/health/live',
  description: { summary: 'the process answers', answer: HEALTH },
  isOpen: true,
  answer: () => jsonAnswer({ status: 'live' }),
};

/** The server listens once its bundle is checked, so that only a server that stops is not ready. */
const readyEndpoint: Endpoint = {
  method: 'GET',
  path: '/health/ready',
  description: { summary: 'requests may be sent', answer: HEALTH },
  isOpen: true,
  answer: ({ server }) => {
    const { isDraining, processes } = server;
    if (!isDraining)
      return jsonAnswer({ status: 'ready', ...(processes === null ? {} : { processes }) });
    throw new RefusedRequest({
      reason: 'draining',
      what: 'the server is stopping',
      cure: 'ask another server',
    });
  },
};

export const rankingEndpoints: readonly Endpoint[] = [
  rankEndpoint,
  scoreEndpoint,
  bundleEndpoint,
  dictionaryEndpoint,
  liveEndpoint,
  readyEndpoint,
  openapiEndpoint,
];
