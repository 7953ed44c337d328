/** The part of an answer that explains scores: evidence and shares of the first candidates. */

import { at, int32At, numberAt } from '../../../../shared/base/arrays.js';
import { hasExactShares } from '../../explanation.js';
import type { RankingBody } from '../ranking-body.js';
import type { ServedBundle } from '../served-bundle.js';
import { answerListsOf } from './answer-lists.js';

/** As `ExplanationSchema` describes it. */
export type AnswerExplanation = object;

/**
 * Undefined where the request does not ask for it. Estimates are those of before, in the same arrays.
 *
 * @param places of candidates in the request, of which the first are explained.
 */
export function explanationOf(
  bundle: ServedBundle,
  body: RankingBody,
  places: ArrayLike<number>,
  candidatesMax: number,
): AnswerExplanation | undefined {
  if (!body.explain) return undefined;
  const explained = Array.from({ length: Math.min(places.length, candidatesMax) }, (_, index) =>
    numberAt(places, index),
  );
  const explanations = bundle.explanations(body, explained);
  const estimates = bundle.estimates(body);
  const [supportRows, clicks, impressions] = answerListsOf(
    bundle,
    { fields: ['evidence'] },
    estimates,
    null,
  );
  const sumAt = (list: typeof clicks, place: number): number => numberAt(list?.values ?? [], place);
  return {
    isExact: hasExactShares(bundle.loaded.model),
    candidates: explained.map((place, index) => ({
      ...{ candidate: place, block: int32At(estimates.blocks, place) },
      isLive: estimates.live?.has(place) ?? false,
      evidence: {
        supportRows: sumAt(supportRows, place),
        clicks: sumAt(clicks, place),
        impressions: sumAt(impressions, place),
      },
      ...at(explanations, index),
    })),
  };
}
