/** Warming a bundle before it is served: requests that others have answered, and whose answers nobody gets. */

import type { Clock } from '../../../../shared/base/clock.js';
import type { RecordedRequest } from '../../recorded-requests.js';
import { besideRequests } from '../beside-requests.js';
import { JSON_TYPE } from '../endpoint.js';
import { parseRankingBody } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import type { ServedBundle } from '../served-bundle.js';
import { rankedAnswer, scoredAnswer, type ScoringRequest } from './received-ranking.js';

/**
 * The part of the time that warming takes of the thread, which answers others meanwhile. An eighth, on a thread that is busy for more
 * than half, makes the slowest hundredth of the requests wait for half as long again.
 */
const WARMING_SHARE = 1 / 32;

export const RANK_PATH = '/v1/rank';
export const SCORE_PATH = '/v1/score';

/**
 * Requests that the bundle refuses, such as those with ids of another one's dictionaries, are counted and passed over.
 *
 * @param beside the clock where requests are answered meanwhile, as for `besideRequests`.
 */
export async function warmUp(
  bundle: ServedBundle,
  requests: readonly RecordedRequest[],
  beside: Clock | null,
): Promise<void> {
  const counts = { answered: 0, refused: 0 };
  for (const { path, mediaType, body } of requests) {
    const request: ScoringRequest = {
      ...{ bundle, bundleFor: () => bundle, body, mediaType },
      ...{ headers: {}, parameters: {}, server: { explainedMax: 0 } },
    };
    await besideRequests(beside, WARMING_SHARE, () => {
      try {
        if (path === SCORE_PATH) scoredAnswer(request);
        else rankedAnswer(request);
        counts.answered += 1;
      } catch (error) {
        if (!(error instanceof RefusedRequest)) throw error;
        counts.refused += 1;
      }
    });
  }
  bundle.warmUp = counts;
}

/**
 * Requests of `/v1/rank` in JSON, one on each line.
 *
 * @throws RefusedRequest if a line is none.
 */
export function requestOfLine(line: string): RecordedRequest {
  const body = Buffer.from(line);
  parseRankingBody(body);
  return { path: RANK_PATH, mediaType: JSON_TYPE, body };
}
