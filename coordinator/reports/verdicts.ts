/** Sentences that say what the intervals allow, and no more. Table and page use them. */

import type {
  Difference,
  EvaluationReport,
  Interval,
  Selection,
  Slice,
} from '../scoring/evaluation-report.js';
import { EVALUATED_ARMS, type ArmName } from '../../shared/config/arms.js';
import { counted } from '../../shared/names/counted.js';
import { wordsOf, type LabelWords } from './label-words.js';
import type { EmphasisedCell } from './table.js';

export type Verdict = 'better' | 'worse' | 'undecided';

export interface ComparedPair {
  readonly arm: ArmName;
  readonly difference: Difference;
  /** The verdict on the difference per impression: better if the whole interval is below 0. */
  readonly verdict: Verdict;
}

/** Arms that claim to improve on a reference. */
const CLAIMING_ARMS: readonly ArmName[] = EVALUATED_ARMS.filter(
  (arm) => arm !== 'constant' && arm !== 'global',
);

export function verdictOf({ low, high }: Interval): Verdict {
  // All draws of a single adgroup, or of adgroups with equal differences, are alike.
  if (low === high) return 'undecided';
  if (high < 0) return 'better';
  return low > 0 ? 'worse' : 'undecided';
}

/** The reason why the verdict on a difference is undecided. */
export function whyUndecided({ low, high }: Interval): string {
  return low <= 0 && high >= 0 ? 'the interval holds 0' : 'the interval has no width';
}

/** Each claiming arm against each reference that is listed before it. */
export function comparedPairs(slice: Slice): ComparedPair[] {
  return slice.arms
    .filter(({ arm }) => CLAIMING_ARMS.includes(arm))
    .flatMap(({ arm, differences }) =>
      differences
        .filter(({ reference }) => arm.startsWith('meta') || isBefore(reference, arm))
        .map((difference) => ({
          arm,
          difference,
          verdict: verdictOf(difference.perImpression),
        })),
    );
}

function isBefore(reference: ArmName, arm: ArmName): boolean {
  return CLAIMING_ARMS.indexOf(reference) < CLAIMING_ARMS.indexOf(arm);
}

/**
 * Pairs of the arm that the run was made for: meta-adapted if it is there, else the last claiming
 * arm.
 */
export function mainPairs(report: EvaluationReport): ComparedPair[] {
  const [all] = report.slices;
  if (all === undefined) return [];
  const pairs = comparedPairs(all);
  const arm = pairs.some((pair) => pair.arm === 'meta-adapted')
    ? 'meta-adapted'
    : pairs.at(-1)?.arm;
  return pairs.filter((pair) => pair.arm === arm);
}

export function verdictSentences(report: EvaluationReport): string[] {
  const words = wordsOf(report);
  return mainPairs(report).map((pair) => sentenceOf(pair, words));
}

export function sentenceOf(
  { arm, difference, verdict }: ComparedPair,
  { loss, perRow }: LabelWords,
): string {
  const { reference, perImpression, perAdgroup } = difference;
  const perAdgroupVerdict = verdictOf(perAdgroup);
  const addition =
    perAdgroupVerdict === verdict
      ? `per adgroup ${signedInterval(perAdgroup)}`
      : `per adgroup it is ${wordOf(perAdgroupVerdict)}: ${signedInterval(perAdgroup)}`;
  const ending = verdict === 'undecided' ? ` (${whyUndecided(perImpression)})` : '';
  return (
    `${arm} is ${wordOf(verdict)} than ${reference}: difference in ${loss} ` +
    `${signedInterval(perImpression)} ${perRow}${ending}; ${addition}.`
  );
}

function wordOf(verdict: Verdict): string {
  return verdict === 'undecided' ? 'not better' : verdict;
}

export function signedInterval({ value, low, high }: Interval): string {
  return `${signed(value)} [${signed(low)}, ${signed(high)}]`;
}

/** On a page the bounds are in small print, below the value where columns are narrow. */
export function intervalCell(interval: Interval, separator: ' ' | '<br>' = ' '): EmphasisedCell {
  const { value, low, high } = interval;
  return {
    text: signedInterval(interval),
    page: `${signed(value)}${separator}<small>[${signed(low)}, ${signed(high)}]</small>`,
  };
}

function signed(value: number): string {
  const text = value.toFixed(4);
  if (Number(text) === 0) return '0.0000';
  return value > 0 ? `+${text}` : text;
}

/** `inner rate 0.1, 5 inner steps`, `a shift of the level, prior variance times 0.3` or `shift ~ N(0, 0.45^2)`. */
export function describeCell({ cell }: Pick<Selection, 'cell'>): string {
  if (cell.kind === 'shift-prior') return `shift ~ N(${cell.mean}, ${cell.deviation}^2)`;
  const { innerRate, innerSteps, priorFactor } = cell;
  if (innerSteps === 0) return 'without adaptation';
  if (priorFactor !== undefined)
    return `a shift of the level, prior variance times ${Number(priorFactor.toPrecision(4))}`;
  return `inner rate ${innerRate}, ${counted(innerSteps, 'inner step')}`;
}

/** The best arm by its mean loss, apart from the oracle. */
export function bestArmOf(slice: Slice): ArmName | null {
  let best: Slice['arms'][number] | null = null;
  for (const candidate of slice.arms)
    if (
      candidate.arm !== 'oracle' &&
      (best === null || candidate.metrics.logloss < best.metrics.logloss)
    )
      best = candidate;
  return best?.arm ?? null;
}
