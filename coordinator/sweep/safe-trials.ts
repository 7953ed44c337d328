/**
 * The trials of a search that are as good as the validation adgroups can tell. Losses are noisy where adgroups are few, so
 * every trial is held against the lowest loss adgroup by adgroup, and of those within the allowed error the one
 * with the fewest parts is the safest, the average of several is safer than any, and a shift of the level makes
 * each safer. Pure.
 */

import { sumOf } from '../scoring/metrics.js';
import {
  meanLoss,
  pairedDifference,
  STANDARD_ERRORS_APART,
  type EntryLosses,
} from '../scoring/validated-losses.js';
import {
  isDerived,
  rankedOnRung,
  scoreAt,
  type ComparedTrial,
  type SweepRecord,
  type TrialRecord,
} from './sweep-record.js';
import type { Tower } from './trials.js';

interface SafeTrials {
  readonly safest: TrialRecord;
  /** All trials of the rung that have a score: the shifted one, averages, then those of fewer parts first. */
  readonly compared: readonly ComparedTrial[];
}

/**
 * The standard errors above the lowest loss within which a trial counts as equally good: one, widened where few adgroups have
 * most of the impressions. If all of a difference is that of one adgroup, its standard error is about as large as itself,
 * so that a rule of exactly one would be a throw of a coin.
 *
 * It is the factor of Student's t at one standard error of a normal variable, by the first terms of its expansion (Abramowitz and
 * Stegun, 1964, 26.7.5 at x = 1): 1 + 1 / (2 v) + 1 / (4 v^2) with v degrees of freedom, at least one.
 * There are as many adgroups as would have the same variance with equal impressions: (sum n)^2 / sum n^2.
 */
export function standardErrorsAllowed(impressions: readonly number[]): number {
  const squares = sumOf(impressions.map((shown) => shown * shown));
  const adgroups = sumOf(impressions) ** 2 / squares;
  const freedom = Math.max(1, adgroups - 1);
  return 1 + 1 / (2 * freedom) + 1 / (4 * freedom * freedom);
}

/** Null if the rung has no losses by adgroup: in a sweep, and where every trial diverged. */
export function safeTrialsOf(record: SweepRecord, rungIndex: number): SafeTrials | null {
  const candidates = comparedOnRung(record, rungIndex)
    // A stable sort: of equally many parts, the better loss stays first.
    .sort(
      ({ trial: a }, { trial: b }) =>
        Number(isShifted(b)) - Number(isShifted(a)) ||
        membersOf(b) - membersOf(a) ||
        partsOf(a) - partsOf(b),
    );
  const [first] = candidates;
  if (first === undefined) return null;
  const isGood = isAsGood(record);
  const safest = candidates.find((compared) =>
    isDerived(compared.trial) ? isIndistinct(compared) : isGood(compared),
  );
  if (safest === undefined) throw new Error('the lowest loss is within any error of itself');
  return {
    safest: safest.trial,
    compared: candidates.map(({ trial, difference, standardError }) => ({
      ...{ trial: trial.name, difference, standardError },
    })),
  };
}

/** The trials of a rung that can be compared, the lowest loss first: where any was cross-fitted, only such. */
export function comparableTrials(record: SweepRecord, rungIndex: number): TrialRecord[] {
  return comparedOnRung(record, rungIndex).map(({ trial }) => trial);
}

/** The trials of a rung that validation adgroups cannot tell from that of the lowest loss, which is the first. */
export function indistinctTrials(record: SweepRecord, rungIndex: number): TrialRecord[] {
  return comparedOnRung(record, rungIndex)
    .filter(isIndistinct)
    .map(({ trial }) => trial);
}

function isIndistinct({ difference, standardError }: HeldAgainstLowest): boolean {
  return difference <= STANDARD_ERRORS_APART * standardError;
}

interface HeldAgainstLowest {
  readonly trial: TrialRecord;
  readonly difference: number;
  readonly standardError: number;
}

function isAsGood(record: SweepRecord): (compared: HeldAgainstLowest) => boolean {
  const allowed = standardErrorsAllowed(judgingImpressions(record));
  return ({ difference, standardError }) => difference <= allowed * standardError;
}

/** The impressions of the adgroups that trials are compared on: training adgroups are among them if any trial was cross-fitted. */
export function judgingImpressions(record: SweepRecord): readonly number[] {
  const { impressions = [], trainingImpressions = [] } = record.search ?? {};
  return isCrossFitted(record) ? [...impressions, ...trainingImpressions] : impressions;
}

export function isCrossFitted({ trials }: SweepRecord): boolean {
  return trials.some(({ scores }) => scores.at(-1)?.trainingLosses !== undefined);
}

/** The trials of a rung that have losses of all judging adgroups, the lowest loss first. */
function comparedOnRung(record: SweepRecord, rungIndex: number): HeldAgainstLowest[] {
  const shown = judgingImpressions(record);
  const scored = rankedOnRung(record, rungIndex)
    .flatMap((trial) => {
      const { adgroupLosses, trainingLosses = [] } = scoreAt(trial, rungIndex) ?? {};
      if (adgroupLosses === undefined) return [];
      const losses = Float64Array.from([...adgroupLosses, ...trainingLosses]);
      return losses.length === shown.length ? [{ trial, losses, sum: sumOf(losses) }] : [];
    })
    .sort((a, b) => a.sum - b.sum);
  const [lowest] = scored;
  if (lowest === undefined) return [];
  const aboveLowest = differenceTo(lowest.losses, shown);
  return scored.map(({ trial, losses }) => ({ trial, ...aboveLowest(losses) }));
}

function isShifted({ shiftOf }: TrialRecord): boolean {
  return shiftOf !== undefined;
}

/** An average of many is safer than one of few, and any is safer than a single trial. */
function membersOf({ averageOf = [] }: TrialRecord): number {
  return averageOf.length;
}

function partsOf({ parts = 0 }: TrialRecord): number {
  return parts;
}

/** A single adgroup says nothing of the error: only an equal loss is then as good as the lowest. */
function differenceTo(
  lowest: EntryLosses,
  shown: readonly number[],
): (losses: EntryLosses) => { readonly difference: number; readonly standardError: number } {
  const impressions = Float64Array.from(shown);
  const entries = { adgroupCount: shown.length, drawCount: 1, impressions, supportRowCounts: [] };
  return (losses) => {
    const found = pairedDifference(losses, lowest, entries);
    const difference = found?.value ?? meanLoss(losses, entries) - meanLoss(lowest, entries);
    return { difference, standardError: found?.standardError ?? 0 };
  };
}

/**
 * The trials of a rung: all on the first, and on the others the best of the rung before, best first. Where a search had no time
 * to begin all trials of that rung, the same share of them continues.
 *
 * In a search, the order of the candidates decides between those that cannot be told from the lowest loss, for the first ones
 * have done well on many logs, and some of them learn slowly. The safest one continues as well, and so do the networks of an
 * average of two kinds. With a budget of time, the others follow, for as long as there is time.
 */
export function trialsOnRung(record: SweepRecord, rungIndex: number): TrialRecord[] {
  if (rungIndex === 0) return record.trials.filter((trial) => !isDerived(trial));
  const [plannedBefore = 1, planned = 0] = [rungIndex - 1, rungIndex].map(
    (index) => record.rungs[index]?.trialCount,
  );
  const before = rankedOnRung(record, rungIndex - 1);
  const count = Math.ceil((Math.min(before.length, plannedBefore) * planned) / plannedBefore);
  const finite = before.filter(
    (trial) => scoreAt(trial, rungIndex - 1)?.validationLogloss !== null,
  );
  if (record.search === undefined) return finite.slice(0, count);
  const inOrder = inOrderOfCandidates(record, rungIndex - 1, finite);
  const counted = withSafest(inOrder.slice(0, count), record, rungIndex - 1);
  const first = [...new Set([...counted, ...hopefulPair(record, rungIndex - 1, finite)])];
  if (record.search.budgetMinutes === null) return first;
  return [...first, ...inOrder.filter((trial) => !first.includes(trial))];
}

/** The trials, with the safest of the rung in place of the last, or beside the lowest where that one is alone. */
function withSafest(
  trials: readonly TrialRecord[],
  record: SweepRecord,
  rungIndex: number,
): TrialRecord[] {
  const safest = safeTrialsOf(record, rungIndex)?.safest;
  if (!safest || trials.some(({ name }) => name === safest.name)) return [...trials];
  return [...(trials.length > 1 ? trials.slice(0, -1) : trials), safest];
}

/**
 * The lowest loss, then the networks of an average of two kinds, then others that cannot be told from the lowest loss in the order
 * of the candidates, and the rest.
 *
 * @param ranked the trials of the rung, best first.
 */
function inOrderOfCandidates(
  record: SweepRecord,
  rungIndex: number,
  ranked: readonly TrialRecord[],
): TrialRecord[] {
  const [lowest, ...others] = ranked;
  if (lowest === undefined) return [];
  const isIndistinct = isIndistinctOn(record, rungIndex);
  const planned = record.trials.filter((trial) => others.includes(trial) && isIndistinct(trial));
  const pair = hopefulPair(record, rungIndex, ranked);
  return [...new Set([lowest, ...pair, ...planned, ...others])];
}

/** The networks of an average of two kinds, if one of them cannot be told from the lowest loss. */
function hopefulPair(
  record: SweepRecord,
  rungIndex: number,
  ranked: readonly TrialRecord[],
): TrialRecord[] {
  const pair = pairOfKinds(ranked);
  return pair.some(isIndistinctOn(record, rungIndex)) ? pair : [];
}

function isIndistinctOn(record: SweepRecord, rungIndex: number): (trial: TrialRecord) => boolean {
  const indistinct = new Set(indistinctTrials(record, rungIndex).map(({ name }) => name));
  return ({ name }) => indistinct.has(name);
}

/**
 * The best network of each kind of those that have an average, if there are both: their mean may be better than either, however
 * far apart they are.
 *
 * @param ranked best first.
 */
export function pairOfKinds<Ranked extends Pick<TrialRecord, 'tower'>>(
  ranked: readonly Ranked[],
): Ranked[] {
  const ofKind = (wanted: Tower['kind']): Ranked[] =>
    ranked.filter(({ tower }) => tower?.kind === wanted);
  for (const generated of ofKind('generated'))
    for (const global of ofKind('global'))
      if (haveAverage(generated, global)) return [generated, global];
  return [];
}

function haveAverage(
  { tower: one }: Pick<TrialRecord, 'tower'>,
  { tower: other }: Pick<TrialRecord, 'tower'>,
): boolean {
  if (one === undefined || other === undefined || one.layerCount !== other.layerCount) return false;
  const [formula, otherFormula] = [one.inputFormula, other.inputFormula];
  return formula === null || otherFormula === null || formula === otherFormula;
}
