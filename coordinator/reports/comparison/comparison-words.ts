/** The conclusions that a comparison allows, in words that table and page share. */

import {
  describeCell,
  signedInterval,
  verdictOf,
  whyUndecided,
  type Verdict,
} from '../verdicts.js';
import { wordsOf } from '../label-words.js';
import { formatCount } from '../text-format.js';
import type { Interval } from '../../scoring/evaluation-report.js';
import type {
  ComparedSlice,
  ComparisonReport,
  RunDifferences,
} from '../../comparison/comparison-report.js';
import { MEASURES, type MeasureInfo } from '../../comparison/run-measures.js';

interface MeasureDifference {
  readonly info: MeasureInfo;
  /** Null if it is not defined on these rows. */
  readonly interval: Interval | null;
  readonly verdict: Verdict;
}

/** The measures that exist for the label, with their names for it. */
export function measuresOfLabel(report: Pick<ComparisonReport, 'label'>): MeasureInfo[] {
  if (report.label?.loss !== 'squared') return [...MEASURES];
  const { loss } = wordsOf(report);
  const withoutClasses = MEASURES.filter(
    ({ measure }) => !['normalisedEntropy', 'auc', 'gauc'].includes(measure),
  );
  return withoutClasses.map((info) => ({ ...info, title: info.title.replace('logloss', loss) }));
}

/** The differences of one run in the order of `MEASURES`; empty for the first run. */
export function measureDifferences(
  report: Pick<ComparisonReport, 'label'>,
  differences: RunDifferences | null,
): MeasureDifference[] {
  if (differences === null) return [];
  return measuresOfLabel(report).map((info) => {
    const interval = differences[info.measure];
    return { info, interval, verdict: verdictOn(info, interval) };
  });
}

function verdictOn({ isBetterWhen }: MeasureInfo, interval: Interval | null): Verdict {
  if (interval === null) return 'undecided';
  if (isBetterWhen === 'lower') return verdictOf(interval);
  const { value, low, high } = interval;
  return verdictOf({ value: -value, low: -high, high: -low });
}

interface RunSentence {
  readonly text: string;
  readonly verdict: Verdict;
}

/** Sentences about logloss per impression on all adgroups, and about buckets that disagree. */
export function comparisonSentences(report: ComparisonReport): RunSentence[] {
  const [all, ...buckets] = report.slices;
  const [first, ...others] = report.runs;
  if (all === undefined || first === undefined) return [];
  const words = wordsOf(report);
  return others.map(({ label }, index) => {
    const verdict = loglossVerdict(all, index + 1);
    const interval = all.runs[index + 1]?.differences?.logloss ?? null;
    const word = verdict === 'undecided' ? 'neither better nor worse' : verdict;
    const contrary = buckets
      .map((bucket) => ({ name: bucket.name, verdict: loglossVerdict(bucket, index + 1) }))
      .filter((bucket) => bucket.verdict !== 'undecided' && bucket.verdict !== verdict)
      .map((bucket) => `${bucket.verdict} with ${bucket.name} support rows`);
    return {
      verdict,
      text:
        `${label} is ${word} than ${first.label}: difference in ${words.loss} ` +
        `${interval === null ? 'not defined' : signedInterval(interval)} ${words.perRow}` +
        (verdict === 'undecided' && interval !== null ? ` (${whyUndecided(interval)})` : '') +
        `${contrary.length === 0 ? '' : `; ${contrary.join(', ')}`}.`,
    };
  });
}

export function loglossVerdict(slice: ComparedSlice, run: number): Verdict {
  const interval = slice.runs[run]?.differences?.logloss ?? null;
  return interval === null ? 'undecided' : verdictOf(interval);
}

/** `maml, deepfm, seed 7; inner rate 0.1, 5 inner steps` */
export function describeComparedRun(run: ComparisonReport['runs'][number]): string {
  const chosen = run.cell === null ? '' : `; ${describeCell({ cell: run.cell })}`;
  return `${run.method}, ${run.model}, seed ${run.seed}${chosen}`;
}

/** Notes on what differs between runs that were evaluated in different ways. */
export function comparisonNotes(report: ComparisonReport): string[] {
  return [...storesNote(report), ...supportNotes(report), ...ndcgNotes(report)];
}

/** Different stores may hold other features of the same rows, which is worth a note. */
function storesNote({ runs }: ComparisonReport): string[] {
  return new Set(runs.map(({ storeDigest }) => storeDigest)).size === 1
    ? []
    : [
        'The runs were trained on different task stores; their test rows, clicks and impressions are the same.',
      ];
}

/** With another support set, arms adapt differently, so the difference is not one of models alone. */
function supportNotes({ runs: [first, ...others], slices: [all] }: ComparisonReport): string[] {
  return others.flatMap(({ label, otherSupportAdgroupCount }) =>
    otherSupportAdgroupCount === 0
      ? []
      : [
          `${formatCount(otherSupportAdgroupCount)} of ${formatCount(all?.adgroupCount ?? 0)} adgroups have other ` +
            `support rows in ${label} than in ${first?.label ?? ''}, whose numbers of rows decide the size buckets.`,
        ],
  );
}

function ndcgNotes({ runs: [first, ...others] }: ComparisonReport): string[] {
  return others.flatMap(({ label, ndcgAt }) =>
    first?.ndcgAt === undefined || ndcgAt === undefined || ndcgAt === first.ndcgAt
      ? []
      : [
          `${label} was evaluated with nDCG@${ndcgAt}; here it has nDCG@${first.ndcgAt}, as ${first.label}.`,
        ],
  );
}
