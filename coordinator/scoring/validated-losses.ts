/**
 * The losses of arms on the query rows of the validation adgroups, and what can be said from them
 * without a test row. An entry is one adgroup in one draw of its support and query rows.
 *
 * The setting of an arm is chosen on the adgroups that it is then judged on, which flatters arms with
 * many settings. A held-out loss does not: the setting that an adgroup is judged with is chosen on the
 * other folds of adgroups.
 */

import { at, demandSameLength } from '../../shared/base/arrays.js';
import { sumOf } from './metrics.js';

/** The entries of all draws, draw after draw: `[drawCount * adgroupCount]`. */
export interface ValidatedEntries {
  readonly adgroupCount: number;
  readonly drawCount: number;
  /** The impressions of the query rows. */
  readonly impressions: Float64Array;
  readonly supportRowCounts: readonly number[];
}

/** Sums of losses by entry; infinite where the arm diverged. */
export type EntryLosses = Float64Array;

/** Two losses whose difference is within so many of its standard errors are not told apart. */
export const STANDARD_ERRORS_APART = 2;

const FOLD_COUNT_MAX = 5;

/** One adgroup is judged with what others chose, so there are no folds of fewer than two. */
export function foldCountOf({ adgroupCount }: Pick<ValidatedEntries, 'adgroupCount'>): number {
  return adgroupCount < 2 ? 1 : Math.min(FOLD_COUNT_MAX, adgroupCount);
}

/** All draws of an adgroup are in one fold. */
function foldOf(entries: ValidatedEntries, entry: number): number {
  return (entry % entries.adgroupCount) % foldCountOf(entries);
}

/** The loss per impression; infinite if the arm diverged, NaN without impressions. */
export function meanLoss(losses: EntryLosses, { impressions }: ValidatedEntries): number {
  demandSameLength(losses, impressions);
  return sumOf(losses) / sumOf(impressions);
}

/** Chooses something for each fold by the entries of the other folds, and takes the losses there. */
export function heldOutLosses(
  entries: ValidatedEntries,
  lossesChosenWithout: (isOther: (entry: number) => boolean) => EntryLosses,
): EntryLosses {
  const foldCount = foldCountOf(entries);
  if (foldCount === 1) return lossesChosenWithout(() => true);
  const byFold = Array.from({ length: foldCount }, (_, fold) =>
    lossesChosenWithout((entry) => foldOf(entries, entry) !== fold),
  );
  return Float64Array.from({ length: entries.impressions.length }, (_, entry) =>
    at(at(byFold, foldOf(entries, entry)), entry),
  );
}

/** The place of the cell with the lowest loss over these entries; the first of equal ones. */
export function bestCell(
  byCell: readonly EntryLosses[],
  isCounted: (entry: number) => boolean = () => true,
): number {
  let best = 0;
  let lowest = Infinity;
  for (const [cell, losses] of byCell.entries()) {
    let sum = 0;
    for (const [entry, loss] of losses.entries()) if (isCounted(entry)) sum += loss;
    if (sum < lowest) [best, lowest] = [cell, sum];
  }
  return best;
}

/**
 * The place of the shift that a run is served with, if it adapts nothing else: that of the lowest loss, unless its loss over
 * these entries is clearly above that of the first cell, which has no shift. It is the rule of `block-choice.ts`, for all adgroups.
 */
export function servedShift(
  [none, ...shifts]: readonly EntryLosses[],
  entries: ValidatedEntries,
  isCounted: (entry: number) => boolean = () => true,
): number {
  if (none === undefined || shifts.length === 0) return 0;
  const best = bestCell(shifts, isCounted);
  const kept = [...none.keys()].filter(isCounted);
  const of = (all: Float64Array): Float64Array =>
    Float64Array.from(kept, (entry) => at(all, entry));
  const counted = {
    ...{ drawCount: entries.drawCount, adgroupCount: kept.length / entries.drawCount },
    ...{ impressions: of(entries.impressions), supportRowCounts: [] },
  };
  const [shifted, unshifted] = [of(at(shifts, best)), of(none)];
  const difference = meanLoss(shifted, counted) - meanLoss(unshifted, counted);
  const { standardError } = pairedDifference(shifted, unshifted, counted) ?? { standardError: 0 };
  return difference <= STANDARD_ERRORS_APART * standardError ? 1 + best : 0;
}

interface PairedDifference {
  /** Loss of the one minus that of the other, per impression. */
  readonly value: number;
  readonly standardError: number;
}

/**
 * The difference of two arms with the standard error of a ratio over adgroups (Cochran, Sampling
 * Techniques, 1977, section 6.4): with d and n the difference and the impressions of an adgroup,
 * D = sum d / sum n and sqrt(A / (A - 1) * sum (d - D n)^2) / sum n.
 *
 * @returns null where it is not finite, and where a single adgroup says nothing of the others.
 */
export function pairedDifference(
  losses: EntryLosses,
  reference: EntryLosses,
  entries: ValidatedEntries,
): PairedDifference | null {
  const { adgroupCount: count } = entries;
  const differences = new Float64Array(count);
  const shown = new Float64Array(count);
  for (const [entry, loss] of losses.entries()) {
    const adgroup = entry % count;
    differences[adgroup] = at(differences, adgroup) + loss - at(reference, entry);
    shown[adgroup] = at(shown, adgroup) + at(entries.impressions, entry);
  }
  const total = sumOf(shown);
  const value = sumOf(differences) / total;
  const squares = differences.map((d, adgroup) => (d - value * at(shown, adgroup)) ** 2);
  const standardError = Math.sqrt((count / (count - 1)) * sumOf(squares)) / total;
  return Number.isFinite(value) && Number.isFinite(standardError) ? { value, standardError } : null;
}
