/** What the arm meta-chosen serves each size bucket, on a terminal and on the page. */

import type { BlockChoice, EvaluationReport } from '../../scoring/evaluation-report.js';
import { wordsOf } from '../label-words.js';
import { card, escapeHtml, section, tableHtml } from '../page/page-frame.js';
import { alignColumns, formatCount } from '../text-format.js';
import { signedInterval } from '../verdicts.js';

export function blocksText(report: EvaluationReport): string {
  const { blocks } = report.selection;
  if (blocks === undefined) return '';
  const { buckets, rule } = blocks;
  const columns = [
    ['support rows', ...buckets.map(({ name }) => name)],
    ['serves', ...buckets.map(({ serves }) => serves)],
    ['validation adgroups', ...buckets.map(({ adgroupCount }) => formatCount(adgroupCount))],
    [`adapted - unadapted, ${wordsOf(report).unit}`, ...buckets.map(differenceText)],
    ['decided by', ...buckets.map(decidedByText)],
  ];
  return `Blocks of meta-chosen: ${rule}\n${alignColumns(columns, 2)}`;
}

export function blocksHtml(report: EvaluationReport): string {
  const { blocks } = report.selection;
  if (blocks === undefined) return '';
  const { unit, perRow } = wordsOf(report);
  const rows = blocks.buckets.map(
    (bucket) =>
      `<tr><td>${bucket.name}</td><td>${bucket.serves}</td><td>${formatCount(bucket.adgroupCount)}</td>` +
      `<td>${differenceText(bucket)}</td><td>${decidedByText(bucket)}</td></tr>`,
  );
  return section(
    'Blocks that meta-chosen serves',
    `${escapeHtml(capitalised(blocks.rule))}. Test adgroups had no part in it.`,
    card(
      tableHtml(
        '<th>support rows</th><th>serves</th><th>validation adgroups</th>' +
          `<th>adapted minus unadapted<small>${unit} ${perRow}</small></th><th>decided by</th>`,
        rows,
      ),
    ),
  );
}

function differenceText({ difference }: BlockChoice): string {
  return difference === null ? '-' : signedInterval(difference);
}

function decidedByText({ decidedBy }: BlockChoice): string {
  return decidedBy === 'bucket' ? 'the bucket' : 'all adgroups';
}

function capitalised(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
