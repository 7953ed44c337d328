/** The view of a server that answers may tell: one object for all requests, since one for each costs as much as its look-ups. */

import type { ServerView, ServingPlace } from '../endpoint.js';

interface ChangingParts extends Pick<ServerView, 'requestReport'> {
  readonly isDraining: () => boolean;
  readonly placeOf: () => ServingPlace | null;
}

export function serverViewOf(
  {
    keeper,
    canary,
    explainedMax,
    endpoints,
  }: Omit<ServerView, 'isDraining' | 'processes' | 'requestReport'>,
  { isDraining, placeOf, requestReport }: ChangingParts,
): ServerView {
  return {
    ...{ keeper, canary, explainedMax, endpoints, requestReport },
    get isDraining() {
      return isDraining();
    },
    get processes() {
      return placeOf();
    },
  };
}
