/** The evaluation report on a terminal: plain text, aligned, units named. */

import type { EvaluationReport, Slice } from '../../scoring/evaluation-report.js';
import { titleOf, wordsOf, type LabelWords } from '../label-words.js';
import { BEST_MARK, textTable } from '../table.js';
import { formatCount, formatShare, wrap } from '../text-format.js';
import { verdictSentences } from '../verdicts.js';
import {
  bucketTable,
  differencesTable,
  metricsTable,
  selectionTable,
} from './evaluation-tables.js';
import { protocolsText } from './protocols-text.js';
import { blocksText } from './served-blocks.js';
import { blendText, validatedText } from './validated-arms.js';

/** @param outputColumns width of the terminal: sentences are wrapped to it */
export function reportTable(report: EvaluationReport, outputColumns = 80): string {
  const [all, ...buckets] = report.slices;
  if (all === undefined) throw new Error('a report has at least one slice');
  const words = wordsOf(report);
  const percent = `${formatShare(report.confidence)} interval`;
  const sections = [
    heading(report, all),
    metricsText(all),
    `${words.lossTitle} of the arm minus that of the reference, ${words.unit}, with ${percent} (paired bootstrap over adgroups)\n` +
      differencesText(all, words, outputColumns),
    ...(buckets.length > 0
      ? [
          `${words.lossTitle} by support rows of the adgroup, ${words.unit} ${words.perRow}\n` +
            textTable(bucketTable(buckets)),
        ]
      : []),
    ...protocolsText(report),
    selectionText(report),
    validatedText(report, outputColumns),
    blocksText(report),
    blendText(report),
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

function metricsText(all: Slice): string {
  const leftOut = all.arms[0]?.metrics.gaucAdgroupsLeftOutCount ?? 0;
  const note =
    leftOut === 0 ? '' : `\nadgroups with one class only, not in GAUC: ${formatCount(leftOut)}`;
  return `${textTable(metricsTable(all))}\n${BEST_MARK} best of its column, the oracle aside${note}`;
}

function differencesText(all: Slice, words: LabelWords, outputColumns: number): string {
  const table = differencesTable(all, words);
  return table.rows.length === 0 ? 'no arm to compare' : textTable(table, outputColumns);
}

function selectionText({ selection }: EvaluationReport): string {
  const { chosen, cellsPerArm, criterion } = selection;
  if (chosen.length === 0) return '';
  return (
    `Settings: ${cellsPerArm} tried for each arm, chosen by ${criterion}\n` +
    textTable(selectionTable(chosen))
  );
}
