/** The protocols of a report as tables and plots of the page. */

import { bandChart } from '../page/band-chart.js';
import type {
  ArmResult,
  EvaluationReport,
  Interval,
  ProtocolResult,
  Slice,
} from '../../scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import { armsOf, PROTOCOL_DIGITS, PROTOCOL_WORDING, resultOf, rowsOf } from './protocols-text.js';
import { armColour } from './evaluation-charts.js';
import { card, section, tableHtml } from '../page/page-frame.js';
import { armLabel } from './evaluation-sections.js';
import { formatCount, formatNumber, formatShare } from '../text-format.js';
import { bestArmOf } from '../verdicts.js';

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
        `${curves.join('')}<h3>In numbers</h3>${card(tableOf(protocol, axis, words))}`,
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

/** A column for each point up to so many; beyond, a row for each. */
const POINT_COLUMNS_MAX = 8;

function tableOf(protocol: ProtocolResult, axis: string, words: LabelWords): string {
  const title = `<th>${axis}<small>${words.loss}, ${words.second} below it</small></th>`;
  const rows = rowsOf(protocol);
  return rows.length <= POINT_COLUMNS_MAX
    ? tableByArm(protocol, title)
    : tableByPoint(protocol, title);
}

function tableByArm(protocol: ProtocolResult, title: string): string {
  const rows = rowsOf(protocol);
  const heads = rows.map(
    ({ name, adaptedOn, slice }) =>
      `<th>${name}<small>${formatCount(slice.adgroupCount)} adgroups</small>` +
      `<small>${adaptedOn === '' ? '' : `${adaptedOn} rows`}</small></th>`,
  );
  const lines = armsOf(protocol).map(
    (arm) =>
      `<tr><td>${armLabel(arm)}</td>${rows.map(({ slice }) => cellOf(slice, arm)).join('')}</tr>`,
  );
  return tableHtml(`${title}${heads.join('')}`, lines);
}

function tableByPoint(protocol: ProtocolResult, title: string): string {
  const names = armsOf(protocol);
  const lines = rowsOf(protocol).map(
    ({ name, slice }) =>
      `<tr><td>${name}</td><td>${formatCount(slice.adgroupCount)}</td>` +
      `${names.map((arm) => cellOf(slice, arm)).join('')}</tr>`,
  );
  const heads = names.map((arm) => `<th>${arm}</th>`);
  return tableHtml(`${title}<th>adgroups</th>${heads.join('')}`, lines, 'tight');
}

function cellOf(slice: Slice, arm: ArmName): string {
  const metrics = resultOf(slice, arm)?.metrics;
  const logloss = formatNumber(metrics?.logloss ?? null, PROTOCOL_DIGITS);
  const second = formatNumber(metrics?.values?.mae ?? metrics?.auc ?? null, PROTOCOL_DIGITS);
  const mark = bestArmOf(slice) === arm ? ' class="best"' : '';
  return `<td${mark}>${logloss}<br><small>${second}</small></td>`;
}
