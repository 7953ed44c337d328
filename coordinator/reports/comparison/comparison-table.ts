/** A comparison of runs on a terminal: plain text, aligned, units named. */

import type { ComparisonReport } from '../../comparison/comparison-report.js';
import { wordsOf } from '../label-words.js';
import { BEST_MARK, textTable } from '../table.js';
import { formatCount, formatShare, wrap } from '../text-format.js';
import { bucketTable, differencesList, metricsTable, runsTable } from './comparison-tables.js';
import { comparisonNotes, comparisonSentences } from './comparison-words.js';

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
    textTable(runsTable(report)),
    `${textTable(metricsTable(report, report.slices))}\n${BEST_MARK} best of its adgroups`,
    `Minus ${first.label}, with ${percent} (paired bootstrap over adgroups)\n` +
      textTable(differencesList(report, all)),
    ...(buckets.length === 0
      ? []
      : [
          `${words.lossTitle} minus ${first.label} by support rows of the adgroup, ${words.unit} ${words.perRow}\n` +
            textTable(bucketTable(report, buckets)),
        ]),
    comparisonSentences(report)
      .map(({ text }) => wrap(text, outputColumns))
      .join('\n'),
    ...comparisonNotes(report).map((note) => wrap(note, outputColumns)),
  ].join('\n\n');
}
