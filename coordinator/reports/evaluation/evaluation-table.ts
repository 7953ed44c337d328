/** The evaluation report on a terminal: plain text, aligned, units named. */

import type { EvaluationReport, Slice } from '../../scoring/evaluation-report.js';
import { titleOf, wordsOf, type LabelWords } from '../label-words.js';
import { metricColumnsOf } from '../metric-columns.js';
import { blocksText } from './served-blocks.js';
import { protocolsText } from './protocols-text.js';
import { alignColumns, formatCount, formatNumber, formatShare, wrap } from '../text-format.js';
import {
  bestArmOf,
  comparedPairs,
  describeCell,
  signedInterval,
  verdictSentences,
  type Verdict,
} from '../verdicts.js';

const BEST = '*';
const VERDICT_TEXT: Readonly<Record<Verdict, string>> = {
  better: 'better',
  worse: 'WORSE',
  undecided: 'not better',
};

/** @param outputColumns width of the terminal: sentences are wrapped to it */
export function reportTable(report: EvaluationReport, outputColumns = 80): string {
  const [all, ...buckets] = report.slices;
  if (all === undefined) throw new Error('a report has at least one slice');
  const words = wordsOf(report);
  const percent = `${formatShare(report.confidence)} interval`;
  const sections = [
    heading(report, all),
    metricsTable(all),
    `${words.lossTitle} of the arm minus that of the reference, ${words.unit}, with ${percent} (paired bootstrap over adgroups)\n` +
      differencesTable(all, words, outputColumns),
    ...(buckets.length > 0
      ? [
          `${words.lossTitle} by support rows of the adgroup, ${words.unit} ${words.perRow}\n` +
            bucketTable(buckets),
        ]
      : []),
    ...protocolsText(report),
    selectionText(report),
    blocksText(report),
    verdictSentences(report)
      .map((sentence) => wrap(sentence, outputColumns))
      .join('\n'),
    ...report.armsLeftOut.map(({ arm, reason }) => `${arm} was left out: ${reason}.`),
  ];
  return sections.filter((section) => section !== '').join('\n\n');
}

function heading(report: EvaluationReport, all: Slice): string {
  const { run, counts } = report;
  const words = wordsOf(report);
  return [
    `${titleOf(report)} (${run.method}, ${run.model}, seed ${run.seed})`,
    `${formatCount(all.adgroupCount)} held-out adgroups, ${formatCount(all.queryRowCount)} query rows, ` +
      `${formatCount(all.impressions)} impressions, ${words.rate} ${words.describeRate(all.clicks / all.impressions)}; ` +
      `settings chosen on ${formatCount(counts.validationTasks)} other adgroups`,
  ].join('\n');
}

function metricsTable(all: Slice): string {
  const withGap = all.arms.some(({ gapClosed }) => gapClosed !== null);
  const columns = metricColumnsOf(all).map((column) => {
    const best = column.bestOf(all.arms);
    return [
      column.title,
      column.unit,
      ...all.arms.map(({ arm, metrics }) => {
        const text = formatNumber(column.value(metrics), column.digits);
        return text + (text === best && arm !== 'oracle' ? BEST : ' ');
      }),
    ];
  });
  if (withGap)
    columns.push([
      'gap closed',
      'of oracle',
      ...all.arms.map(({ gapClosed }) =>
        gapClosed === null ? formatNumber(null, 0) : formatShare(gapClosed.value),
      ),
    ]);
  const table = alignColumns([['arm', '', ...all.arms.map(({ arm }) => arm)], ...columns], 1);
  const leftOut = all.arms[0]?.metrics.gaucAdgroupsLeftOutCount ?? 0;
  const note =
    leftOut === 0 ? '' : `\nadgroups with one class only, not in GAUC: ${formatCount(leftOut)}`;
  return `${table}\n${BEST} best of its column, the oracle aside${note}`;
}

/** The verdict is that of the interval per impression; a narrow terminal shows that one alone. */
function differencesTable(all: Slice, words: LabelWords, outputColumns: number): string {
  const pairs = comparedPairs(all);
  if (pairs.length === 0) return 'no arm to compare';
  const names = ['arm - reference', ...pairs.map((p) => `${p.arm} - ${p.difference.reference}`)];
  const perImpression = [
    words.perRow,
    ...pairs.map((p) => signedInterval(p.difference.perImpression)),
  ];
  const perAdgroup = ['per adgroup', ...pairs.map((p) => signedInterval(p.difference.perAdgroup))];
  const verdicts = ['', ...pairs.map((p) => VERDICT_TEXT[p.verdict])];
  const wide = alignColumns([names, perImpression, verdicts, perAdgroup], 1);
  const width = Math.max(...wide.split('\n').map((line) => line.length));
  return width <= outputColumns ? wide : alignColumns([names, perImpression, verdicts], 1);
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
