/** Encoded rows as the candidates of a request that has no context. */

import { at, float32At, int32At } from '../../shared/base/arrays.js';
import type { EncodedRows } from '../../shared/features/encoded-rows.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { requestLayoutOf, type FeaturePlace, type RankingRequest } from './ranking-request.js';

/** @param blocks of the rows, `[rowCount]`. */
export function requestOfRows(
  spec: ModelSpec,
  rows: EncodedRows,
  blocks: Int32Array,
): RankingRequest {
  const { rowCount } = rows;
  const layout = requestLayoutOf(spec, []);
  const { idCounts, numberCounts } = layout;
  const candidateIds = new Int32Array(rowCount * idCounts.candidate);
  const candidateNumbers = new Float32Array(rowCount * numberCounts.candidate);
  const featureIds = [...rows.categoryIds, ...rows.bagIds];
  const eachPlace = (
    { firstPlace, placeCount }: FeaturePlace,
    stride: number,
    write: (target: number, source: number) => void,
  ): void => {
    for (let row = 0; row < rowCount; row += 1)
      for (let place = 0; place < placeCount; place += 1)
        write(row * stride + firstPlace + place, row * placeCount + place);
  };
  for (const [feature, place] of layout.ids.entries()) {
    const ids = at(featureIds, feature);
    eachPlace(place, idCounts.candidate, (target, source) => {
      candidateIds[target] = int32At(ids, source);
    });
  }
  for (const [feature, place] of layout.numbers.entries()) {
    const numbers = at(rows.numbers, feature);
    eachPlace(place, numberCounts.candidate, (target, source) => {
      candidateNumbers[target] = float32At(numbers, source);
    });
  }
  return {
    ...{ candidateCount: rowCount, blocks, candidateIds, candidateNumbers },
    ...{ contextIds: new Int32Array(0), contextNumbers: new Float32Array(0) },
  };
}
