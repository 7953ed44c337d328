/** The blocks that the arm meta-chosen serves each size bucket, on a terminal and on the page. */

import type { BlockChoice, EvaluationReport } from '../../scoring/evaluation-report.js';
import { escapeHtml } from '../html-text.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import { card, section } from '../page/page-frame.js';
import { htmlTable, textTable, type Table } from '../table.js';
import { formatCount } from '../text-format.js';
import { signedInterval } from '../verdicts.js';

export function blocksText(report: EvaluationReport): string {
  const { blocks } = report.selection;
  if (blocks === undefined) return '';
  const table = blocksTable(blocks.buckets, wordsOf(report));
  return `Blocks of meta-chosen: ${blocks.rule}\n${textTable(table)}`;
}

export function blocksHtml(report: EvaluationReport): string {
  const { blocks } = report.selection;
  if (blocks === undefined) return '';
  return section(
    'Blocks that meta-chosen serves',
    `${escapeHtml(capitalised(blocks.rule))}. Test adgroups were not used.`,
    card(htmlTable(blocksTable(blocks.buckets, wordsOf(report)))),
  );
}

function blocksTable(buckets: readonly BlockChoice[], { unit, perRow }: LabelWords): Table {
  return {
    columns: [
      { title: 'support rows', alignment: 'left' },
      { title: 'serves', alignment: 'left' },
      { title: 'validation adgroups' },
      {
        title: `adapted - unadapted, ${unit}`,
        page: { title: 'adapted minus unadapted', unit: `${unit} ${perRow}` },
      },
      { title: 'decided by' },
    ],
    rows: buckets.map(({ name, serves, adgroupCount, difference, decidedBy }) => [
      name,
      serves,
      formatCount(adgroupCount),
      difference === null ? '-' : signedInterval(difference),
      decidedBy === 'bucket' ? 'the bucket' : 'all adgroups',
    ]),
  };
}

function capitalised(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
