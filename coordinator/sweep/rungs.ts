/**
 * The rungs of a sweep. With successive halving (Jamieson and Talwalkar, AISTATS 2016, algorithm 1; with a
 * factor eta as in Li et al., JMLR 2018), all trials are trained briefly, the best are trained further,
 * and so on. Each rung is eta times as long as the one before. Pure.
 *
 *   K = rungCount - 1,  trials on rung k: floor(n / eta^k), at least 1
 *   outer steps of a trial by the end of rung k: ceil(R / eta^(K - k)),  R = training.outerSteps
 *
 * Where trials differ in their outer steps, R is that of the longest, and a trial that ends before a rung does
 * is scored there as it ended: on each rung all trials have had the same steps or all that they want.
 */

import type { SweepConfig } from '../../shared/config/sweep-config.js';
import { QianmoError } from '../../shared/base/errors.js';

export interface Rung {
  /** Outer steps at the end of the rung, including those of earlier rungs. */
  readonly outerSteps: number;
  readonly trialCount: number;
}

/** @throws QianmoError of kind `usage` if the run is too short for this number of rungs. */
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

/** The number of rungs until one trial is left, at least two. */
function rungsToOne(trialCount: number, eta: number): number {
  let rungCount = 1;
  for (let left = trialCount; left >= eta; left = Math.floor(left / eta)) rungCount += 1;
  return Math.max(2, rungCount);
}

/** The outer steps of the whole sweep if no trial fails. */
export function outerStepTotal(rungs: readonly Rung[]): number {
  return rungs.reduce(
    (sum, { outerSteps, trialCount }, index) =>
      sum + trialCount * (outerSteps - (rungs[index - 1]?.outerSteps ?? 0)),
    0,
  );
}

interface ScoredTrial {
  readonly name: string;
  /** Null if it diverged. */
  readonly validationLogloss: number | null;
}

/** The best first. Equal ones are in the order of the trials, and those that diverged come last. */
export function ranked<Scored extends ScoredTrial>(scored: readonly Scored[]): Scored[] {
  return [...scored].sort(
    (a, b) =>
      (a.validationLogloss ?? Infinity) - (b.validationLogloss ?? Infinity) ||
      Number(a.validationLogloss === null) - Number(b.validationLogloss === null) ||
      a.name.localeCompare(b.name, 'en', { numeric: true }),
  );
}
