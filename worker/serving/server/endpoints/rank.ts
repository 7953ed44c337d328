/** `POST /v1/rank`: candidates in the order of their value. */

import { rankAnswer, selected } from '../answers.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { parseRankingBody } from '../ranking-body.js';

export const rankEndpoint: Endpoint = {
  method: 'POST',
  path: '/v1/rank',
  mediaTypes: [JSON_TYPE],
  answer: ({ bundle, body }) => {
    const parsed = parseRankingBody(body);
    return jsonAnswer(selected(rankAnswer(bundle, parsed), parsed.fields));
  },
};
