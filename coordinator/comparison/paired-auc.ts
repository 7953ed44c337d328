/**
 * AUC of the same rows under many weightings of their adgroups, for a bootstrap over adgroups. Rows
 * are sorted once; each weighting is then one pass over them.
 */

import { at, float32At, int32At, spanAt } from '../../shared/base/arrays.js';
import type { TaskCounts } from '../scoring/held-out-rows.js';

/** Takes how often each adgroup counts and returns the AUC of all rows; NaN with one class only. */
export type WeightedAuc = (adgroupWeights: ArrayLike<number>) => number;

/** @param logits `[rowCount]` of `rows`; rows of equal logit are ties and count half */
export function weightedAuc(logits: Float32Array, rows: TaskCounts): WeightedAuc {
  const adgroupOfRow = new Int32Array(logits.length);
  for (let adgroup = 0; adgroup + 1 < rows.starts.length; adgroup += 1)
    adgroupOfRow.fill(adgroup, ...spanAt(rows.starts, adgroup));
  const order = Int32Array.from({ length: logits.length }, (_, row) => row).sort(
    (a, b) => float32At(logits, a) - float32At(logits, b),
  );
  // Ascending by logit and adjacent in memory, so that one pass reads each value once.
  const adgroups = order.map((row) => at(adgroupOfRow, row));
  const clicks = Float64Array.from(order, (row) => at(rows.clicks, row));
  const others = Float64Array.from(
    order,
    (row) => at(rows.impressions, row) - at(rows.clicks, row),
  );
  const opensTie = Uint8Array.from(order, (row, place) =>
    place > 0 && logits[row] === logits[int32At(order, place - 1)] ? 0 : 1,
  );
  return (adgroupWeights) => {
    let clicksBelow = 0;
    let othersBelow = 0;
    let tiedClicks = 0;
    let tiedOthers = 0;
    let wins = 0;
    for (let place = 0; place < adgroups.length; place += 1) {
      if (opensTie[place] === 1) {
        wins += tiedClicks * (othersBelow + tiedOthers / 2);
        clicksBelow += tiedClicks;
        othersBelow += tiedOthers;
        tiedClicks = 0;
        tiedOthers = 0;
      }
      const weight = adgroupWeights[adgroups[place] ?? NaN] ?? NaN;
      tiedClicks += weight * (clicks[place] ?? NaN);
      tiedOthers += weight * (others[place] ?? NaN);
    }
    wins += tiedClicks * (othersBelow + tiedOthers / 2);
    return wins / ((clicksBelow + tiedClicks) * (othersBelow + tiedOthers));
  };
}
