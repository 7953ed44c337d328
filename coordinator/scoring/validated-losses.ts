/**
 * The losses of arms on the query rows of the validation adgroups, and what can be said from them
 * without a test row.
 *
 * The setting of an arm is chosen on the adgroups that it is then judged on, which flatters arms with
 * many settings. A held-out loss does not: the setting that an adgroup is judged with is chosen on the
 * other folds of adgroups.
 */

import { at, requireSameLength } from '../../shared/base/arrays.js';
import type { ArmName } from '../../shared/config/arms.js';
import type { ValidationSummary } from './evaluation-report.js';
import { sumOf } from './metrics.js';

/** Sums of losses by adgroup; infinite where the arm diverged. */
export type AdgroupLosses = Float64Array;

/** Two losses whose difference is within so many of its standard errors are not told apart. */
export const STANDARD_ERRORS_APART = 2;

const FOLD_COUNT_MAX = 5;

/** One adgroup is judged with what others chose, so there are no folds of fewer than two. */
function foldCountOf(adgroupCount: number): number {
  return adgroupCount < 2 ? 1 : Math.min(FOLD_COUNT_MAX, adgroupCount);
}

/** The loss per impression; infinite if the arm diverged, NaN without impressions. */
export function meanLoss(losses: AdgroupLosses, impressions: Float64Array): number {
  requireSameLength(losses, impressions);
  return sumOf(losses) / sumOf(impressions);
}

/** Chooses something for each fold by the adgroups of the other folds, and takes the losses there. */
export function heldOutLosses(
  adgroupCount: number,
  lossesChosenWithout: (isOther: (adgroup: number) => boolean) => AdgroupLosses,
): AdgroupLosses {
  const foldCount = foldCountOf(adgroupCount);
  if (foldCount === 1) return lossesChosenWithout(() => true);
  const byFold = Array.from({ length: foldCount }, (_, fold) =>
    lossesChosenWithout((adgroup) => adgroup % foldCount !== fold),
  );
  return Float64Array.from({ length: adgroupCount }, (_, adgroup) =>
    at(at(byFold, adgroup % foldCount), adgroup),
  );
}

/** The place of the cell with the lowest loss over these adgroups; the first of equal ones. */
export function bestCell(
  byCell: readonly AdgroupLosses[],
  isCounted: (adgroup: number) => boolean = () => true,
): number {
  let best = 0;
  let lowest = Infinity;
  for (const [cell, losses] of byCell.entries()) {
    let sum = 0;
    for (const [adgroup, loss] of losses.entries()) if (isCounted(adgroup)) sum += loss;
    if (sum < lowest) [best, lowest] = [cell, sum];
  }
  return best;
}

/**
 * The difference of two arms with the standard error of a ratio over adgroups (Cochran, Sampling
 * Techniques, 1977, section 6.4): with d and n the difference and the impressions of an adgroup,
 * D = sum d / sum n and sqrt(A / (A - 1) * sum (d - D n)^2) / sum n.
 *
 * @returns null where it is not finite, and where a single adgroup says nothing of the others.
 */
export function pairedDifference(
  losses: AdgroupLosses,
  reference: AdgroupLosses,
  impressions: Float64Array,
): ValidationSummary['arms'][number]['fromChosen'] {
  const count = impressions.length;
  const differences = losses.map((loss, adgroup) => loss - at(reference, adgroup));
  const total = sumOf(impressions);
  const value = sumOf(differences) / total;
  const squares = differences.map((d, adgroup) => (d - value * at(impressions, adgroup)) ** 2);
  const standardError = Math.sqrt((count / (count - 1)) * sumOf(squares)) / total;
  return Number.isFinite(value) && Number.isFinite(standardError) ? { value, standardError } : null;
}

export interface ValidatedArm {
  readonly arm: ArmName;
  /** With settings that were chosen on all validation adgroups. */
  readonly losses: AdgroupLosses;
  /** With settings that were chosen on the other folds. */
  readonly heldOut: AdgroupLosses;
}

/**
 * The arm that validation alone would choose, and how sure that is. Arms are compared by their held-out
 * losses. The oracle is no choice.
 *
 * @param arms in the order in which they are shown; of equal ones the first is chosen
 */
export function chooseArm(
  arms: readonly ValidatedArm[],
  impressions: Float64Array,
): ValidationSummary {
  let best: ValidatedArm | null = null;
  let lowest = Infinity;
  for (const each of arms) {
    const loss = meanLoss(each.heldOut, impressions);
    if (each.arm !== 'oracle' && loss < lowest) [best, lowest] = [each, loss];
  }
  return {
    adgroupCount: impressions.length,
    foldCount: foldCountOf(impressions.length),
    chosen: best?.arm ?? null,
    arms: arms.map(({ arm, losses, heldOut }) => ({
      arm,
      logloss: finiteOrNull(meanLoss(losses, impressions)),
      heldOutLogloss: finiteOrNull(meanLoss(heldOut, impressions)),
      fromChosen:
        best === null || arm === best.arm
          ? null
          : pairedDifference(heldOut, best.heldOut, impressions),
    })),
  };
}

export function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
