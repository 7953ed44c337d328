/**
 * The time of a search: which trials may still begin. Each rung may use the share of the time that its outer steps have in
 * all of them, and begins at least one trial, so that every search ends with a model that is trained to the end. Pure.
 */

import { at } from '../../shared/base/arrays.js';
import { scoreAt, type SweepRecord } from '../sweep/sweep-record.js';
import type { Rung } from '../sweep/rungs.js';

const MINUTE_MS = 60_000;

/** The share of the time that is spent at the end of each rung. */
export function timeShares(rungs: readonly Rung[]): number[] {
  let sum = 0;
  const sums = rungs.map(({ outerSteps, trialCount }, index) => {
    sum += trialCount * (outerSteps - (rungs[index - 1]?.outerSteps ?? 0));
    return sum;
  });
  return sums.map((each) => each / sum);
}

/** The time of the search that its trials have not taken; without end where time does not matter. */
export function timeLeftMs({ search, trials }: SweepRecord): number {
  const minutes = search?.budgetMinutes ?? null;
  return minutes === null ? Infinity : minutes * MINUTE_MS - spentMsOf(trials);
}

function spentMsOf(trials: SweepRecord['trials']): number {
  return trials
    .flatMap(({ scores }) => scores.map((score) => score.spentMs ?? 0))
    .reduce((sum, each) => sum + each, 0);
}

/**
 * True if a trial of the rung would end in time, as the earlier ones of the rung took on average.
 *
 * @param runningCount of trials that were begun and have taken no time in the record yet.
 */
export function mayBeginTrial(
  record: SweepRecord,
  rungIndex: number,
  runningCount: number,
): boolean {
  const minutes = record.search?.budgetMinutes ?? null;
  const taken = record.trials.flatMap((trial) => scoreAt(trial, rungIndex)?.spentMs ?? []);
  if (minutes === null || taken.length === 0) return true;
  const meanMs = taken.reduce((sum, each) => sum + each, 0) / taken.length;
  const soonMs = spentMsOf(record.trials) + (runningCount + 1) * meanMs;
  return soonMs <= at(timeShares(record.rungs), rungIndex) * minutes * MINUTE_MS;
}
