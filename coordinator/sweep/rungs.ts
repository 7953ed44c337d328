/**
 * The rungs of a sweep. With successive halving (Jamieson and Talwalkar, AISTATS 2016, algorithm 1;
 * with a factor eta as in Li et al., JMLR 2018) all trials are trained a little, the best of them on,
 * and so forth, each rung eta times as long as the one before. Pure.
 *
 *   K = rungCount - 1,  trials on rung k: floor(n / eta^k), at least 1
 *   outer steps of a trial by the end of rung k: ceil(R / eta^(K - k)),  R = training.outerSteps
 */

import type { SweepConfig } from '../../shared/config/sweep-config.js';
import { QianmoError } from '../../shared/base/errors.js';

export interface Rung {
  /** At its end; what earlier rungs trained is included. */
  readonly outerSteps: number;
  readonly trialCount: number;
}

/** @throws QianmoError of kind `usage` when the run is too short for so many rungs. */
export function rungsOf(
  trialCount: number,
  outerSteps: number,
  halving: SweepConfig['halving'],
  where: string,
): Rung[] {
  if (halving === undefined) return [{ outerSteps, trialCount }];
  const { eta } = halving;
  const rungCount = halving.rungs ?? rungsToOne(trialCount, eta);
  const rungs = Array.from({ length: rungCount }, (_, rung): Rung => ({
    outerSteps: Math.ceil(outerSteps / eta ** (rungCount - 1 - rung)),
    trialCount: Math.max(1, Math.floor(trialCount / eta ** rung)),
  }));
  if (rungs.every((rung, index) => rung.outerSteps > (rungs[index - 1]?.outerSteps ?? 0)))
    return rungs;
  throw new QianmoError({
    kind: 'usage',
    what: 'the run is too short for so many rungs',
    where: `${where}, halving`,
    expected: `more outer steps on each of ${rungCount} rungs than on the one before`,
    found: `rungs that end after ${rungs.map((rung) => rung.outerSteps).join(', ')} outer steps`,
    cure: 'raise training.outerSteps of the base config, or set fewer rungs or a smaller eta',
  });
}

/** Rungs until one trial is left; two at least, or nothing would be halved. */
function rungsToOne(trialCount: number, eta: number): number {
  let rungCount = 1;
  for (let left = trialCount; left >= eta; left = Math.floor(left / eta)) rungCount += 1;
  return Math.max(2, rungCount);
}

/** Outer steps of the whole sweep, when no trial fails. */
export function outerStepTotal(rungs: readonly Rung[]): number {
  return rungs.reduce(
    (sum, { outerSteps, trialCount }, index) =>
      sum + trialCount * (outerSteps - (rungs[index - 1]?.outerSteps ?? 0)),
    0,
  );
}

interface ScoredTrial {
  readonly name: string;
  /** Null: it diverged. */
  readonly validationLogloss: number | null;
}

/** Best first; equal ones in the order of the trials, those that diverged last. */
export function ranked<Scored extends ScoredTrial>(scored: readonly Scored[]): Scored[] {
  return [...scored].sort(
    (a, b) =>
      (a.validationLogloss ?? Infinity) - (b.validationLogloss ?? Infinity) ||
      Number(a.validationLogloss === null) - Number(b.validationLogloss === null) ||
      a.name.localeCompare(b.name, 'en', { numeric: true }),
  );
}
