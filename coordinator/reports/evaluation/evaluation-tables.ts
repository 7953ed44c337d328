/** The tables of an evaluation report, each stated once for terminal and page. */

import { at, median } from '../../../shared/base/arrays.js';
import type { ArmName } from '../../../shared/config/arms.js';
import type { Cell, Selection, Slice } from '../../scoring/evaluation-report.js';
import { dotHtml } from '../html-text.js';
import type { LabelWords } from '../label-words.js';
import { metricTable } from '../metric-columns.js';
import type { EmphasisedCell, Table, TableCell } from '../table.js';
import { formatCount, formatNumber, formatShare } from '../text-format.js';
import {
  bestArmOf,
  comparedPairs,
  describeCell,
  intervalCell,
  type ComparedPair,
} from '../verdicts.js';
import { armColour } from './evaluation-charts.js';

export function armCell(arm: ArmName): EmphasisedCell & { readonly page: string } {
  return { text: arm, page: `${dotHtml(armColour(arm))}${arm}` };
}

export function metricsTable({ arms }: Slice): Table {
  const { columns, rows } = metricTable(arms);
  const hasGap = arms.some(({ gapClosed }) => gapClosed !== null);
  const gapColumn = {
    title: 'gap closed',
    unit: 'of oracle',
    page: { unit: 'of global to oracle' },
  };
  return {
    columns: [{ title: 'arm', alignment: 'left' }, ...columns, ...(hasGap ? [gapColumn] : [])],
    rows: arms.map(({ arm, gapClosed }, index) => [
      armCell(arm),
      ...at(rows, index),
      ...(hasGap ? [gapCell(gapClosed)] : []),
    ]),
  };
}

function gapCell(gapClosed: Slice['arms'][number]['gapClosed']): TableCell {
  if (gapClosed === null) return formatNumber(null, 0);
  const [value, low, high] = [gapClosed.value, gapClosed.low, gapClosed.high].map(formatShare);
  return { text: `${value}`, page: `${value} <small>[${low}, ${high}]</small>` };
}

/**
 * Each claiming arm against each reference. The verdict is that of the interval per impression; a
 * narrow terminal shows that interval alone, and a page draws it in a forest plot.
 */
export function differencesTable(all: Slice, { unit, perRow }: LabelWords): Table {
  const pairs = comparedPairs(all);
  const reach = Math.max(
    1e-9,
    ...pairs.map(({ difference: { perImpression: i } }) =>
      Math.max(Math.abs(i.low), Math.abs(i.high)),
    ),
  );
  return {
    columns: [
      { title: 'arm - reference', alignment: 'left', page: { title: 'arm' } },
      { title: perRow, page: { unit } },
      { title: '', shownOn: 'page', unit: 'better | worse' },
      { title: '' },
      { title: 'per adgroup', page: { unit }, isOptional: true },
    ],
    rows: pairs.map((pair) => {
      const { arm, difference, verdict } = pair;
      const { reference, perImpression, perAdgroup } = difference;
      return [
        {
          text: `${arm} - ${reference}`,
          page: `${armCell(arm).page} <small>against ${reference}</small>`,
        },
        intervalCell(perImpression),
        { text: '', page: forestMark(pair, reach) },
        { text: verdict === 'undecided' ? 'not better' : verdict, emphasis: verdict },
        intervalCell(perAdgroup),
      ];
    }),
  };
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

/** The loss of every arm in each size bucket. */
export function bucketTable(buckets: readonly Slice[]): Table {
  const bests = buckets.map(bestArmOf);
  return {
    columns: [
      { title: 'arm', unit: 'adgroups', alignment: 'left' },
      // The space behind the count stands above the stars.
      ...buckets.map(({ name, adgroupCount }) => ({
        title: name,
        unit: `${formatCount(adgroupCount)} `,
        marksBest: true,
      })),
    ],
    rows: (buckets[0]?.arms ?? []).map(({ arm }, armIndex) => [
      armCell(arm),
      ...buckets.map(({ arms }, index): TableCell => {
        const text = formatNumber(at(arms, armIndex).metrics.logloss, 4);
        return arm === bests[index] ? { text, emphasis: 'best' } : text;
      }),
    ]),
  };
}

/** The chosen cell of each arm that has a grid. */
export function selectionTable(chosen: readonly Selection[]): Table {
  return {
    columns: [
      { title: '', alignment: 'left' },
      { title: '', alignment: 'left' },
      { title: '', alignment: 'left' },
    ],
    rows: chosen.map((selection) => [
      `  ${selection.arm}`,
      describeCell(selection),
      selection.atGridEdge ? 'at the edge of its grid' : '',
    ]),
  };
}

/** The tried cells of an arm and the chosen one; a stronger tint is a lower validation loss. */
export function gridTable({ cell: chosen, grid }: Selection): Table {
  const rowValues = ascending(grid.map(({ cell }) => axesOf(cell)[0]));
  const columnValues = ascending(grid.map(({ cell }) => axesOf(cell)[1]));
  const tintOf = tintsOf(grid.flatMap(({ validationLogloss: loss }) => loss ?? []));
  const [rowTitle, columnTitle] =
    chosen.kind === 'inner-steps' ? ['rate', 'steps'] : ['deviation', 'mean'];
  const cellAt = (rowValue: number, columnValue: number): TableCell => {
    const found = grid.find(({ cell }) => {
      const [row, column] = axesOf(cell);
      return row === rowValue && column === columnValue;
    });
    if (found === undefined) return '';
    const { validationLogloss: loss } = found;
    if (loss === null) return 'diverged';
    const isChosen = axesOf(found.cell).join() === axesOf(chosen).join();
    const cell = { text: loss.toFixed(4), tint: tintOf(loss) };
    return isChosen ? { ...cell, emphasis: 'chosen' } : cell;
  };
  return {
    columns: [
      { title: `${rowTitle} \\ ${columnTitle}` },
      ...columnValues.map((value) => ({ title: String(value) })),
    ],
    rows: rowValues.map((rowValue) => [
      String(rowValue),
      ...columnValues.map((columnValue) => cellAt(rowValue, columnValue)),
    ]),
  };
}

const TINT_MAX = 0.35;

/** The median, not the greatest, ends the scale: bad cells would flatten everything else. */
function tintsOf(losses: readonly number[]): (loss: number) => number {
  if (losses.length === 0) return () => 0;
  const least = Math.min(...losses);
  const reach = Math.max(median(losses) - least, 1e-9) * 2;
  return (loss) => Math.max(0, 1 - (loss - least) / reach) * TINT_MAX;
}

function ascending(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

function axesOf(cell: Cell): [number, number] {
  return cell.kind === 'inner-steps'
    ? [cell.innerRate, cell.innerSteps]
    : [cell.deviation, cell.mean];
}
