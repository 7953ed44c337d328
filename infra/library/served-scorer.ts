/** Scores logged rows as a ranking server does: bodies, encoders, kernel and calibration are those of the server. */

import { scoringAddon } from '#bootstrap/native-addons.mjs';
import type { ServedScorer } from '../../coordinator/scoring/served-losses.js';
import { at, int32At } from '../../shared/base/arrays.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import { loadScoringAddon } from '../../worker/serving/kernel-scorer.js';
import { KEY_SEPARATOR, parseRankingBody } from '../../worker/serving/server/ranking-body.js';
import { RefusedRequest } from '../../worker/serving/server/refused-request.js';
import { ServedBundle } from '../../worker/serving/server/served-bundle.js';

/**
 * @param where the bundle is, for messages
 * @throws QianmoError `data` if the bundle fails its self-check.
 */
export function openServedScorer(
  bundle: { readonly digest: string; readonly loaded: LoadedBundle },
  where: string,
): ServedScorer {
  const served = new ServedBundle({ ...bundle, addon: loadScoringAddon(scoringAddon.path()) });
  served.selfCheck(where);
  const deviations = bundle.loaded.manifest.labels.map((label) =>
    label.loss === 'binary' ? NaN : label.deviation,
  );
  return {
    score: (context, candidates) => {
      const asked = candidates.map(({ adgroup, features }) => ({
        ...{ adgroup: adgroup.split(KEY_SEPARATOR), features },
      }));
      const body = parseRankingBody(Buffer.from(JSON.stringify({ context, candidates: asked })));
      try {
        const { expected, labels } = served.estimates(body);
        return {
          // The arrays of the bundle are those of the next request, too.
          expected: expected.slice(),
          deviations: Float64Array.from(labels, (_, place) =>
            at(deviations, int32At(labels, place)),
          ),
        };
      } catch (error) {
        if (!(error instanceof RefusedRequest)) throw error;
        const none = new Float64Array(candidates.length).fill(NaN);
        return { expected: none, deviations: none };
      }
    },
    close: () => served.retire(),
  };
}
