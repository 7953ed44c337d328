/**
 * The arm that validation alone would choose, and how sure that is. Arms are compared by their held-out
 * losses, so that an arm with many settings is not favoured over one with none. The oracle is no choice.
 */

import type { ArmName } from '../../shared/config/arms.js';
import type { ValidationSummary } from './evaluation-report.js';
import {
  foldCountOf,
  meanLoss,
  pairedDifference,
  type EntryLosses,
  type ValidatedEntries,
} from './validated-losses.js';

export interface ValidatedArm {
  readonly arm: ArmName;
  /** With settings that were chosen on all validation adgroups. */
  readonly losses: EntryLosses;
  /** With settings that were chosen on the other folds. */
  readonly heldOut: EntryLosses;
}

/** @param arms in the order in which they are shown; of equal ones the first is chosen */
export function chooseArm(
  arms: readonly ValidatedArm[],
  entries: ValidatedEntries,
): ValidationSummary {
  let best: ValidatedArm | null = null;
  let lowest = Infinity;
  for (const each of arms) {
    const loss = meanLoss(each.heldOut, entries);
    if (each.arm !== 'oracle' && loss < lowest) [best, lowest] = [each, loss];
  }
  return {
    adgroupCount: entries.adgroupCount,
    drawCount: entries.drawCount,
    foldCount: foldCountOf(entries),
    chosen: best?.arm ?? null,
    arms: arms.map(({ arm, losses, heldOut }) => ({
      arm,
      logloss: finiteOrNull(meanLoss(losses, entries)),
      heldOutLogloss: finiteOrNull(meanLoss(heldOut, entries)),
      fromChosen:
        best === null || arm === best.arm ? null : pairedDifference(heldOut, best.heldOut, entries),
    })),
  };
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
