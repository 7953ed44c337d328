/** The effects of a candidate's values of the shifted features: lists of a block, searched by id. */

import { at, int32At } from '../../shared/base/arrays.js';
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
    const list = block * shifted.length + feature;
    const entry = placeOf(
      effects.ids,
      id,
      at(effects.offsets, list),
      at(effects.offsets, list + 1),
    );
    if (entry >= 0) shift += at(effects.effects, entry);
  }
  return shift;
}

/** The place of `id` among ascending ids from `start` to before `end`; -1 if it is not there. */
function placeOf(ids: Int32Array, id: number, start: number, end: number): number {
  let low = start;
  let high = end;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (int32At(ids, middle) < id) low = middle + 1;
    else high = middle;
  }
  return low < end && int32At(ids, low) === id ? low : -1;
}
