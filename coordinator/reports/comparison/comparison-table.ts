/** A comparison of runs on a terminal: plain text, aligned, units named. */

import { wordsOf } from '../label-words.js';
import { metricColumnsOf } from '../metric-columns.js';
import { alignColumns, formatCount, formatNumber, formatShare, wrap } from '../text-format.js';
import { signedInterval, type Verdict } from '../verdicts.js';
import type { ComparedSlice, ComparisonReport } from '../../comparison/comparison-report.js';
import {
  comparisonNotes,
  comparisonSentences,
  describeComparedRun,
  loglossVerdict,
  measureDifferences,
} from './comparison-words.js';

const BEST = '*';
const VERDICT_TEXT: Readonly<Record<Verdict, string>> = {
  better: 'better',
  worse: 'WORSE',
  undecided: '',
};

/** @param outputColumns width of the terminal: sentences are wrapped to it */
export function comparisonTable(report: ComparisonReport, outputColumns = 80): string {
  const [all, ...buckets] = report.slices;
  const [first] = report.runs;
  if (all === undefined || first === undefined) throw new Error('a comparison has runs and rows');
  const percent = `${formatShare(report.confidence)} interval`;
  const words = wordsOf(report);
  return [
    `${formatCount(all.adgroupCount)} held-out adgroups, ${formatCount(all.queryRowCount)} query rows, ` +
      `${formatCount(all.impressions)} impressions, ${words.rate} ${words.describeRate(all.clicks / all.impressions)}`,
    alignColumns([report.runs.map(({ label }) => label), report.runs.map(describeComparedRun)], 2),
    metricsTable(report, report.slices),
    `Minus ${first.label}, with ${percent} (paired bootstrap over adgroups)\n` +
      differencesTable(report, all),
    ...(buckets.length === 0
      ? []
      : [
          `${words.lossTitle} minus ${first.label} by support rows of the adgroup, ${words.unit} ${words.perRow}\n` +
            bucketTable(report, buckets),
        ]),
    comparisonSentences(report)
      .map(({ text }) => wrap(text, outputColumns))
      .join('\n'),
    ...comparisonNotes(report).map((note) => wrap(note, outputColumns)),
  ].join('\n\n');
}

/** Every metric of every run, all adgroups first, then each size bucket. */
function metricsTable({ runs }: ComparisonReport, slices: readonly ComparedSlice[]): string {
  const perSlice = (cells: (slice: ComparedSlice) => string[]): string[] => slices.flatMap(cells);
  const arms = (slices[0]?.runs ?? []).map(({ metrics }, run) => ({
    arm: runs[run]?.arm ?? '',
    metrics,
  }));
  const columns = metricColumnsOf({ arms }).map((column) => [
    column.title,
    column.unit,
    ...perSlice((slice) => {
      const named = slice.runs.map(({ metrics }, run) => ({
        arm: runs[run]?.arm ?? '',
        metrics,
      }));
      const best = column.bestOf(named);
      return named.map(({ arm, metrics }) => {
        const text = formatNumber(column.value(metrics), column.digits);
        return text + (text === best && arm !== 'oracle' ? BEST : ' ');
      });
    }),
  ]);
  const names = perSlice((slice) =>
    slice.runs.map((_, run) =>
      run === 0 ? `${slice.name} (${formatCount(slice.adgroupCount)} adgroups)` : '',
    ),
  );
  const labels = perSlice(() => runs.map(({ label }) => label));
  const table = alignColumns(
    [['support rows', '', ...names], ['run', '', ...labels], ...columns],
    2,
  );
  return `${table}\n${BEST} best of its adgroups`;
}

function differencesTable(report: ComparisonReport, all: ComparedSlice): string {
  const { runs } = report;
  const rows = all.runs.flatMap(({ differences }, run) =>
    measureDifferences(report, differences).map(({ info, interval, verdict }, place) => ({
      label: place === 0 ? (runs[run]?.label ?? '') : '',
      title: info.title,
      interval: interval === null ? '-' : signedInterval(interval),
      verdict: VERDICT_TEXT[verdict],
    })),
  );
  return alignColumns(
    [
      rows.map(({ label }) => label),
      rows.map(({ title }) => title),
      rows.map(({ interval }) => interval),
      rows.map(({ verdict }) => verdict),
    ],
    2,
  );
}

function bucketTable({ runs }: ComparisonReport, buckets: readonly ComparedSlice[]): string {
  return alignColumns(
    [
      ['', ...runs.slice(1).map(({ label }) => label)],
      ...buckets.flatMap((bucket) => {
        const ofRuns = bucket.runs.slice(1);
        return [
          [
            bucket.name,
            ...ofRuns.map(({ differences }) => {
              const interval = differences?.logloss ?? null;
              return interval === null ? '-' : signedInterval(interval);
            }),
          ],
          ['', ...ofRuns.map((_, run) => VERDICT_TEXT[loglossVerdict(bucket, run + 1)])],
        ];
      }),
    ],
    1,
  );
}
