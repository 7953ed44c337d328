/** Words for losses and rates, and sentences that say what the intervals allow, and no more. */

import type {
  Difference,
  EvaluationReport,
  Interval,
  Selection,
  Slice,
} from '../scoring/evaluation-report.js';
import { EVALUATED_ARMS, type ArmName } from '../../shared/config/arms.js';
import { counted } from '../../shared/names/counted.js';
import { small, type Piece } from './document/document.js';
import { formatShare, formatSigned } from './document/format.js';

export interface LabelWords {
  readonly loss: string;
  readonly lossTitle: string;
  readonly unit: string;
  /** The unit that a loss is averaged over. */
  readonly perRow: string;
  readonly rate: string;
  /** The metric shown next to the loss where there is room for one more. */
  readonly second: string;
  describeRate(rate: number): string;
}

const OF_CLICKS: LabelWords = {
  loss: 'logloss',
  lossTitle: 'Logloss',
  unit: 'nats',
  perRow: 'per impression',
  rate: 'click rate',
  second: 'AUC',
  describeRate: formatShare,
};

const OF_VALUES: LabelWords = {
  loss: 'squared error',
  lossTitle: 'Squared error',
  unit: 'squares',
  perRow: 'per row',
  rate: 'mean value',
  second: 'MAE',
  describeRate: (rate) => String(Number(rate.toPrecision(4))),
};

export function wordsOf({ label }: Pick<EvaluationReport, 'label'>): LabelWords {
  return label?.loss === 'squared' ? OF_VALUES : OF_CLICKS;
}

export type Verdict = 'better' | 'worse' | 'undecided';

interface ComparedPair {
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
function mainPairs(report: EvaluationReport): ComparedPair[] {
  const [all] = report.slices;
  if (all === undefined) return [];
  const pairs = comparedPairs(all);
  const arm = pairs.some((pair) => pair.arm === 'meta-adapted')
    ? 'meta-adapted'
    : pairs.at(-1)?.arm;
  return pairs.filter((pair) => pair.arm === arm);
}

/** The conclusions about the main arm, with their verdicts. */
export function verdictSentences(report: EvaluationReport): { text: string; verdict: Verdict }[] {
  const words = wordsOf(report);
  return mainPairs(report).map((pair) => ({
    text: sentenceOf(pair, words),
    verdict: pair.verdict,
  }));
}

function sentenceOf(
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
  return `${formatSigned(value)} [${formatSigned(low)}, ${formatSigned(high)}]`;
}

/** On a page the bounds are in small print. */
export function intervalCell(interval: Interval | null): readonly (string | Piece)[] {
  if (interval === null) return ['-'];
  const { value, low, high } = interval;
  return [`${formatSigned(value)} `, small(`[${formatSigned(low)}, ${formatSigned(high)}]`)];
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
export function bestArmOf({ arms }: Slice): ArmName | null {
  const candidates = arms.filter(({ arm }) => arm !== 'oracle');
  const losses = candidates.map(({ metrics }) => metrics.logloss);
  return candidates[losses.indexOf(Math.min(...losses))]?.arm ?? null;
}
