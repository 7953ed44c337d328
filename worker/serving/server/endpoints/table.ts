/** The endpoints of every server. Those that need more than a bundle are added where the server starts. */

import type { Endpoint } from '../endpoint.js';
import { bundleEndpoint } from './bundle.js';
import { dictionaryEndpoint } from './dictionary.js';
import { liveEndpoint, readyEndpoint } from './health.js';
import { openapiEndpoint } from './openapi.js';
import { rankEndpoint } from './rank.js';
import { scoreEndpoint } from './score.js';

export const rankingEndpoints: readonly Endpoint[] = [
  rankEndpoint,
  scoreEndpoint,
  bundleEndpoint,
  dictionaryEndpoint,
  liveEndpoint,
  readyEndpoint,
  openapiEndpoint,
];
