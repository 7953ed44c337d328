/** The protocols of a report as tables and plots of the page. */

import { bandChart } from '../page/band-chart.js';
import type {
  ArmResult,
  EvaluationReport,
  Interval,
  ProtocolResult,
} from '../../scoring/evaluation-report.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import {
  armsOf,
  axisColumn,
  lossCell,
  pointsTable,
  PROTOCOL_WORDING,
  resultOf,
  rowsOf,
} from './protocols-text.js';
import { armColour } from './evaluation-charts.js';
import { card, section } from '../page/page-frame.js';
import { armCell } from './evaluation-tables.js';
import { htmlTable, type Table } from '../table.js';
import { formatCount, formatShare } from '../text-format.js';
import { counted } from '../../../shared/names/counted.js';

export function protocolsHtml(report: EvaluationReport): string {
  const { protocols = [], confidence } = report;
  const words = wordsOf(report);
  return protocols
    .map((protocol) => {
      const { title, axis, note } = PROTOCOL_WORDING[protocol.kind];
      const curves = [
        curveHtml(
          protocol,
          axis,
          `${words.loss}, ${words.unit} ${words.perRow}`,
          (a) => a.metrics.loglossInterval,
        ),
        ...(armsOf(protocol).includes('global')
          ? [
              '<h3>Difference from global</h3>',
              curveHtml(protocol, axis, `${words.loss} minus global, ${words.unit}`, fromGlobal),
            ]
          : []),
      ];
      return section(
        title,
        `${note} Shaded: ${formatShare(confidence)} intervals over adgroups.`,
        `${curves.join('')}<h3>In numbers</h3>${card(tableOf(protocol, words))}`,
      );
    })
    .join('\n');
}

function curveHtml(
  protocol: ProtocolResult,
  categoryTitle: string,
  valueTitle: string,
  intervalOf: (arm: ArmResult) => Interval | null,
): string {
  const drawn = armsOf(protocol).filter((arm) =>
    protocol.points.some(({ slice }) => {
      const found = resultOf(slice, arm);
      return found !== undefined && intervalOf(found) !== null;
    }),
  );
  return card(
    bandChart({
      categories: protocol.points.map(({ name }) => name),
      categoryTitle,
      valueTitle,
      withZero: intervalOf === fromGlobal,
      series: drawn.map((arm) => ({
        name: arm,
        colour: armColour(arm),
        isDashed: arm === 'meta-chosen',
        intervals: protocol.points.map(({ slice }) => {
          const found = resultOf(slice, arm);
          return found === undefined ? null : intervalOf(found);
        }),
      })),
    }),
  );
}

function fromGlobal({ arm, differences }: ArmResult): Interval | null {
  if (arm === 'constant' || arm === 'oracle') return null;
  return differences.find((d) => d.reference === 'global')?.perImpression ?? null;
}

/** Points that a page shows as columns; more of them become rows. */
const POINT_COLUMNS_MAX = 8;

function tableOf(protocol: ProtocolResult, words: LabelWords): string {
  return rowsOf(protocol).length <= POINT_COLUMNS_MAX
    ? htmlTable(armsTable(protocol, words))
    : htmlTable(pointsTable(protocol, words), 'tight');
}

/** The arms are rows. */
function armsTable(protocol: ProtocolResult, words: LabelWords): Table {
  const points = rowsOf(protocol);
  return {
    columns: [
      axisColumn(protocol, words),
      ...points.map(({ name, adaptedOn, slice }) => ({
        title: name,
        unit:
          counted(slice.adgroupCount, 'adgroup', formatCount(slice.adgroupCount)) +
          (adaptedOn === '' ? '' : `\n${adaptedOn} rows`),
      })),
    ],
    rows: armsOf(protocol).map((arm) => [
      armCell(arm),
      ...points.map(({ slice }) => lossCell(slice, arm)),
    ]),
  };
}
