/** The tables of the report page as HTML. Every text from outside goes through `escapeHtml`. */

import { median } from '../../../shared/base/arrays.js';
import type { Cell, EvaluationReport, Selection, Slice } from '../../scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import { metricColumnsOf } from '../metric-columns.js';
import { armColour } from './evaluation-charts.js';
import { dotHtml, escapeHtml, tableHtml } from '../page/page-frame.js';
import { formatCount, formatNumber, formatShare } from '../text-format.js';
import { comparedPairs, describeCell, signed, type ComparedPair } from '../verdicts.js';

export function armLabel(arm: ArmName): string {
  return `${dotHtml(armColour(arm))}${arm}`;
}

export function metricsTableHtml(all: Slice): string {
  const withGap = all.arms.some(({ gapClosed }) => gapClosed !== null);
  const columns = metricColumnsOf(all);
  const heads = columns.map(({ title, unit }) => `<th>${title}<small>${unit}</small></th>`);
  const bests = columns.map((column) => column.bestOf(all.arms));
  const rows = all.arms.map(({ arm, metrics, gapClosed }) => {
    const cells = columns.map((column, index) => {
      const text = formatNumber(column.value(metrics), column.digits);
      const isBest = arm !== 'oracle' && bests[index] === text;
      return `<td${isBest ? ' class="best"' : ''}>${text}</td>`;
    });
    const gap = withGap
      ? `<td>${gapClosed === null ? '-' : `${formatShare(gapClosed.value)} <small>[${formatShare(gapClosed.low)}, ${formatShare(gapClosed.high)}]</small>`}</td>`
      : '';
    return `<tr><td>${armLabel(arm)}</td>${cells.join('')}${gap}</tr>`;
  });
  const gapHead = withGap ? '<th>gap closed<small>of global to oracle</small></th>' : '';
  return tableHtml(`<th>arm</th>${heads.join('')}${gapHead}`, rows);
}

/** Each claiming arm against each reference: numbers and a forest plot on one scale. */
export function differencesTableHtml(all: Slice, { unit, perRow }: LabelWords): string {
  const pairs = comparedPairs(all);
  const reach = Math.max(
    1e-9,
    ...pairs.map(({ difference: { perImpression: i } }) =>
      Math.max(Math.abs(i.low), Math.abs(i.high)),
    ),
  );
  const interval = ({ value, low, high }: { value: number; low: number; high: number }): string =>
    `${signed(value)} <small>[${signed(low)}, ${signed(high)}]</small>`;
  const rows = pairs.map(
    ({ arm, difference, verdict }) =>
      `<tr><td>${armLabel(arm)} <small>against ${difference.reference}</small></td>` +
      `<td>${interval(difference.perImpression)}</td>` +
      `<td>${forestMark({ arm, difference, verdict }, reach)}</td>` +
      `<td class="${verdict}">${verdict === 'undecided' ? 'not better' : verdict}</td>` +
      `<td>${interval(difference.perAdgroup)}</td></tr>`,
  );
  return tableHtml(
    `<th>arm</th><th>${perRow}<small>${unit}</small></th><th><small>better | worse</small></th>` +
      `<th></th><th>per adgroup<small>${unit}</small></th>`,
    rows,
  );
}

function forestMark({ arm, difference }: ComparedPair, reach: number): string {
  const { value, low, high } = difference.perImpression;
  const place = (x: number): string => (95 + (x / reach) * 88).toFixed(1);
  return (
    '<svg viewBox="0 0 190 18" aria-hidden="true">' +
    '<line x1="95" x2="95" y1="0" y2="18" stroke="var(--ink-2)" stroke-width="1"/>' +
    `<line x1="${place(low)}" x2="${place(high)}" y1="9" y2="9" stroke="${armColour(arm)}" ` +
    `stroke-width="3" stroke-linecap="round" opacity="0.5"/>` +
    `<circle cx="${place(value)}" cy="9" r="4.5" fill="${armColour(arm)}"/></svg>`
  );
}

/** What was tried and what was chosen; darker is a lower validation loss. */
export function selectionHtml({ selection }: EvaluationReport): string {
  const grids = selection.chosen.map((chosen) => {
    const edge = chosen.atGridEdge ? ' <small>(at the edge of its grid)</small>' : '';
    return (
      `<div class="card"><h3 style="margin-top:0">${armLabel(chosen.arm)}</h3>` +
      `<p class="note">${escapeHtml(describeCell(chosen))}${edge}</p>${gridHtml(chosen)}</div>`
    );
  });
  return `<div class="grids">${grids.join('')}</div>`;
}

function gridHtml({ cell: chosen, grid }: Selection): string {
  const unique = (values: number[]): number[] => [...new Set(values)].sort((a, b) => a - b);
  const rowValues = unique(grid.map(({ cell }) => axesOf(cell)[0]));
  const columnValues = unique(grid.map(({ cell }) => axesOf(cell)[1]));
  const losses = grid.flatMap(({ validationLogloss: loss }) => (loss === null ? [] : [loss]));
  const least = Math.min(...losses);
  // The median, not the greatest, ends the scale: bad cells would flatten everything else.
  const reach = Math.max((losses.length === 0 ? least : median(losses)) - least, 1e-9) * 2;
  const rows = rowValues.map((rowValue) => {
    const cells = columnValues.map((columnValue) => {
      const found = grid.find(({ cell }) => {
        const [row, column] = axesOf(cell);
        return row === rowValue && column === columnValue;
      });
      if (found === undefined) return '<td></td>';
      if (found.validationLogloss === null) return '<td>diverged</td>';
      const depth = Math.max(0, 1 - (found.validationLogloss - least) / reach) * 0.35;
      const isChosen = axesOf(found.cell).join() === axesOf(chosen).join();
      return (
        `<td${isChosen ? ' class="chosen"' : ''} style="background:rgba(var(--heat), ` +
        `${depth.toFixed(3)})">${found.validationLogloss.toFixed(4)}</td>`
      );
    });
    return `<tr><td>${rowValue}</td>${cells.join('')}</tr>`;
  });
  const [rowTitle, columnTitle] =
    chosen.kind === 'inner-steps' ? ['rate', 'steps'] : ['deviation', 'mean'];
  return tableHtml(
    `<th>${rowTitle} \\ ${columnTitle}</th>${columnValues.map((v) => `<th>${v}</th>`).join('')}`,
    rows,
  );
}

function axesOf(cell: Cell): [number, number] {
  return cell.kind === 'inner-steps'
    ? [cell.innerRate, cell.innerSteps]
    : [cell.deviation, cell.mean];
}

export function runFactsHtml({ run, counts, ...report }: EvaluationReport): string {
  const words = wordsOf(report);
  const code = (text: string): string => `<code>${escapeHtml(text)}</code>`;
  const facts: [string, string][] = [
    ['run', `${escapeHtml(run.run)}, seed ${run.seed}`],
    ['method', escapeHtml(run.method)],
    [
      'model',
      `${escapeHtml(run.model)}; personal blocks: ${escapeHtml(run.personalBlocks.join(', ') || 'none')}`,
    ],
    [
      'adgroups',
      `${formatCount(counts.trainTasks)} train, ${formatCount(counts.validationTasks)} validation, ${formatCount(counts.testTasks)} test`,
    ],
    [
      'rows',
      `${formatCount(counts.testSupportRows)} support and ${formatCount(counts.testQueryRows)} query rows of test adgroups, ${formatCount(counts.validationQueryRows)} query rows of validation adgroups`,
    ],
    [`${words.rate} in training`, words.describeRate(report.trainClickRate)],
    ['meta-parameters', code(run.metaDigest)],
    ['global parameters', run.globalDigest === null ? 'none' : code(run.globalDigest)],
    ['task store', `${code(run.storeAddress)}<br>${code(run.storeDigest)}`],
    ['config', code(run.configHash)],
    ['computed by', run.backends.map(escapeHtml).join('<br>')],
    [
      'finished',
      `${new Date(run.finishedEpochMs).toISOString()}, after ${formatNumber(run.durationMs / 1000, 1)} s`,
    ],
  ];
  return `<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join('')}</dl>`;
}
