/** `GET /health/live` and `GET /health/ready`, for whoever decides whether to send requests here. */

import { z } from 'zod';
import { jsonAnswer, type Endpoint } from '../endpoint.js';
import { RefusedRequest } from '../refused-request.js';

const HEALTH = { name: 'Health', schema: z.looseObject({ status: z.string() }) };

export const liveEndpoint: Endpoint = {
  method: 'GET',
  path: '/health/live',
  description: { summary: 'the process answers', answer: HEALTH },
  isOpen: true,
  answer: () => jsonAnswer({ status: 'live' }),
};

/** The server listens once its bundle is checked, so that only a server that stops is not ready. */
export const readyEndpoint: Endpoint = {
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
