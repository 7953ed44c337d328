/** The protocols of a report as tables and plots of the page. */

import { bandChart } from './band-chart.js';
import type { ArmResult, EvaluationReport, Interval, ProtocolResult } from './evaluation-report.js';
import { wordsOf, type LabelWords } from './label-words.js';
import { armsOf, PROTOCOL_DIGITS, PROTOCOL_WORDING, resultOf, rowsOf } from './protocols-text.js';
import { armColour } from './report-charts.js';
import { card, section, tableHtml } from './report-page.js';
import { armLabel } from './report-sections.js';
import { formatCount, formatNumber, formatShare } from './text-format.js';
import { bestArmOf } from './verdicts.js';

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

/** The loss, and below it the AUC, of values the MAE. */
function tableOf(protocol: ProtocolResult, axis: string, words: LabelWords): string {
  const names = armsOf(protocol);
  const heads = names.map(
    (arm) => `<th>${armLabel(arm)}<small>${words.loss}, ${words.second}</small></th>`,
  );
  const rows = rowsOf(protocol).map(({ name, adaptedOn, slice }) => {
    const best = bestArmOf(slice);
    const cells = names.map((arm) => {
      const metrics = resultOf(slice, arm)?.metrics;
      const logloss = formatNumber(metrics?.logloss ?? null, PROTOCOL_DIGITS);
      const second = metrics?.values?.mae ?? metrics?.auc ?? null;
      return `<td${arm === best ? ' class="best"' : ''}>${logloss}<br><small>${formatNumber(second, PROTOCOL_DIGITS)}</small></td>`;
    });
    return (
      `<tr><td>${name}</td><td>${formatCount(slice.adgroupCount)}</td>` +
      `<td>${adaptedOn}</td><td>${formatCount(slice.queryRowCount)}</td>${cells.join('')}</tr>`
    );
  });
  const counts = '<th>adgroups</th><th>support rows</th><th>query rows</th>';
  return tableHtml(`<th>${axis}</th>${counts}${heads.join('')}`, rows);
}
