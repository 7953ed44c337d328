/** The adaptation of the test tasks, from the measures that workers sent along with their logits. */

import { at, float64At, spanAt } from '../../shared/base/arrays.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { FlatRows } from '../scoring/held-out-rows.js';
import { sumOf } from '../scoring/metrics.js';
import type { TaskAdaptation } from '../scoring/task-adaptation.js';
import type { AdaptationMeasures } from './predict-logits.js';

/**
 * @param measures without adaptation, then with it
 * @param support rows of the same tasks
 */
export function testAdaptationOf(
  { variables }: Pick<ModelSpec, 'variables'>,
  { supportLossSums, distances }: AdaptationMeasures,
  support: Pick<FlatRows, 'starts' | 'impressions'>,
): TaskAdaptation {
  const meansOf = (sums: Float64Array): Float64Array =>
    sums.map((sum, task) => {
      const [start, end] = spanAt(support.starts, task);
      return sum / sumOf(support.impressions.subarray(start, end));
    });
  return {
    variables: variables.flatMap(({ name, block }) => (block === 'personal' ? [name] : [])),
    supportLossesBefore: meansOf(at(supportLossSums, 0)),
    supportLossesAfter: meansOf(at(supportLossSums, 1)),
    distances: at(distances, 1),
  };
}

/** The distance of a task's blocks together: the root of the sum of squares over its variables. */
export function totalDistance(distances: Float64Array): number {
  return Math.sqrt(distances.reduce((sum, _, place) => sum + float64At(distances, place) ** 2, 0));
}
