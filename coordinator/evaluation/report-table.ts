/** The evaluation report on a terminal: plain text, aligned, at most 80 columns of table. */

import type { EvaluationReport, Metrics, Slice } from './evaluation-report.js';
import {
  bestArmOf,
  comparedPairs,
  describeCell,
  signedInterval,
  verdictSentences,
  type Verdict,
} from './verdicts.js';

const BEST = '*';
const NOTHING = '-';
const VERDICT_TEXT: Readonly<Record<Verdict, string>> = {
  better: 'better',
  worse: 'WORSE',
  undecided: 'not better',
};

/** @param outputColumns width of the terminal: sentences are wrapped to it */
export function reportTable(report: EvaluationReport, outputColumns = 80): string {
  const [all, ...buckets] = report.slices;
  if (all === undefined) throw new Error('a report has at least one slice');
  const percent = `${formatShare(report.confidence)} interval`;
  const sections = [
    heading(report, all),
    metricsTable(all),
    `Logloss of the arm minus that of the reference, nats, with ${percent} (paired bootstrap over adgroups)\n` +
      differencesTable(all),
    ...(buckets.length > 0
      ? ['Logloss by support rows of the adgroup, nats per impression\n' + bucketTable(buckets)]
      : []),
    selectionText(report),
    verdictSentences(report)
      .map((sentence) => wrap(sentence, outputColumns))
      .join('\n'),
    ...report.armsLeftOut.map(({ arm, reason }) => `${arm} was left out: ${reason}.`),
  ];
  return sections.filter((section) => section !== '').join('\n\n');
}

function heading(report: EvaluationReport, all: Slice): string {
  const { run, counts } = report;
  return [
    `Evaluation of ${run.run} (${run.method}, ${run.model}, seed ${run.seed})`,
    `${formatCount(all.adgroupCount)} held-out adgroups, ${formatCount(all.queryRowCount)} query rows, ` +
      `${formatCount(all.impressions)} impressions, click rate ${formatShare(all.clicks / all.impressions)}; ` +
      `settings chosen on ${formatCount(counts.validationTasks)} other adgroups`,
  ].join('\n');
}

interface MetricColumn {
  readonly title: string;
  readonly unit: string;
  readonly value: (metrics: Metrics) => number | null;
  readonly digits: number;
  /** Smaller is better by this distance. */
  readonly badness: (value: number) => number;
}

const METRIC_COLUMNS: readonly MetricColumn[] = [
  {
    title: 'logloss',
    unit: 'nats',
    value: (m) => m.logloss,
    digits: 4,
    badness: (v) => v,
  },
  {
    title: 'per adgroup',
    unit: 'nats',
    value: (m) => m.loglossPerAdgroup.value,
    digits: 4,
    badness: (v) => v,
  },
  { title: 'NE', unit: 'ratio', value: (m) => m.normalisedEntropy, digits: 4, badness: (v) => v },
  { title: 'AUC', unit: '', value: (m) => m.auc, digits: 4, badness: (v) => -v },
  { title: 'GAUC', unit: '', value: (m) => m.gauc, digits: 4, badness: (v) => -v },
  {
    title: 'pred/act',
    unit: 'clicks',
    value: (m) => m.calibration,
    digits: 3,
    badness: (v) => Math.abs(Math.log(v)),
  },
  { title: 'ECE', unit: '', value: (m) => m.ece, digits: 4, badness: (v) => v },
];

function metricsTable(all: Slice): string {
  const withGap = all.arms.some(({ gapClosed }) => gapClosed !== null);
  const columns = METRIC_COLUMNS.map(({ title, unit, value, digits, badness }) => {
    const values = all.arms.map(({ metrics }) => value(metrics));
    // The oracle is no competitor.
    const bests = all.arms.map(({ arm }, index) => {
      const found = values[index] ?? null;
      return arm === 'oracle' || found === null ? Infinity : badness(roundTo(found, digits));
    });
    const best = Math.min(...bests);
    return [
      title,
      unit,
      ...values.map(
        (found, index) =>
          formatNumber(found, digits) + (bests[index] === best && best < Infinity ? BEST : ' '),
      ),
    ];
  });
  if (withGap)
    columns.push([
      'gap closed',
      'of oracle',
      ...all.arms.map(({ gapClosed }) =>
        gapClosed === null ? NOTHING : formatShare(gapClosed.value),
      ),
    ]);
  const table = alignColumns([['arm', '', ...all.arms.map(({ arm }) => arm)], ...columns], 1);
  const leftOut = all.arms[0]?.metrics.gaucAdgroupsLeftOutCount ?? 0;
  const note =
    leftOut === 0 ? '' : `\n${formatCount(leftOut)} adgroups with one class only are not in GAUC`;
  return `${table}\n${BEST} best of its column, the oracle aside${note}`;
}

function differencesTable(all: Slice): string {
  const pairs = comparedPairs(all);
  if (pairs.length === 0) return 'no arm to compare';
  return alignColumns(
    [
      ['arm - reference', ...pairs.map((p) => `${p.arm} - ${p.difference.reference}`)],
      ['per impression', ...pairs.map((p) => signedInterval(p.difference.perImpression))],
      ['per adgroup', ...pairs.map((p) => signedInterval(p.difference.perAdgroup))],
      ['', ...pairs.map((p) => VERDICT_TEXT[p.verdict])],
    ],
    1,
  );
}

function bucketTable(buckets: readonly Slice[]): string {
  const names = buckets[0]?.arms.map(({ arm }) => arm) ?? [];
  return alignColumns(
    [
      ['arm', 'adgroups', ...names],
      ...buckets.map((bucket) => {
        const best = bestArmOf(bucket);
        return [
          bucket.name,
          `${formatCount(bucket.adgroupCount)} `,
          ...bucket.arms.map(
            ({ arm, metrics }) => formatNumber(metrics.logloss, 4) + (arm === best ? BEST : ' '),
          ),
        ];
      }),
    ],
    1,
  );
}

function selectionText({ selection }: EvaluationReport): string {
  if (selection.chosen.length === 0) return '';
  const columns = [
    selection.chosen.map(({ arm }) => `  ${arm}`),
    selection.chosen.map(describeCell),
    selection.chosen.map(({ atGridEdge }) => (atGridEdge ? 'at the edge of its grid' : '')),
  ];
  return (
    `Settings: ${selection.cellsPerArm} tried for each arm, chosen by ${selection.criterion}\n` +
    alignColumns(columns, 3)
  );
}

/** Columns of equal length side by side; the first `leftCount` to the left, the others right. */
export function alignColumns(columns: readonly (readonly string[])[], leftCount: number): string {
  const widths = columns.map((column) => Math.max(...column.map((cell) => cell.length)));
  const rowCount = columns[0]?.length ?? 0;
  return Array.from({ length: rowCount }, (_, row) =>
    columns
      .map((column, index) => {
        const cell = column[row] ?? '';
        const width = widths[index] ?? 0;
        return index < leftCount ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd(),
  ).join('\n');
}

export function formatNumber(value: number | null, digits: number): string {
  return value === null ? NOTHING : value.toFixed(digits);
}

/** `12.3 %` */
export function formatShare(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

export function formatCount(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

function roundTo(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** At word boundaries; a continued line is indented. */
function wrap(sentence: string, columnCount: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of sentence.split(' ')) {
    if (line.trim() !== '' && line.length + 1 + word.length > columnCount) {
      lines.push(line);
      line = `  ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].join('\n');
}
