/** The effects of a candidate's values of the shifted features: lists of a block, searched by id. */

import { at } from '../../shared/base/arrays.js';
import { placeOfId } from '../../shared/bundle/value-lists.js';
import type { PersonalBlocks } from '../../shared/bundle/ranking-model.js';
import type { RankingRequest } from './ranking-request.js';
import type { ScoringPlan } from './scoring-plan.js';

export function valueShift(
  { effects }: Pick<PersonalBlocks, 'effects'>,
  { shifted, request: layout }: Pick<ScoringPlan, 'shifted' | 'request'>,
  { contextIds, candidateIds }: RankingRequest,
  { block, candidate }: { readonly block: number; readonly candidate: number },
): number {
  if (effects === null) return 0;
  let shift = 0;
  for (const [feature, { side, firstPlace }] of shifted.entries()) {
    const id =
      side === 'context'
        ? at(contextIds, firstPlace)
        : at(candidateIds, candidate * layout.idCounts.candidate + firstPlace);
    const entry = placeOfId(effects, { block, feature, id });
    if (entry >= 0) shift += at(effects.effects, entry);
  }
  return shift;
}
