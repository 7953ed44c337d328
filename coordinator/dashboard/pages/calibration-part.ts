/** The part of the serving page that says whether probabilities come true. */

import { durationText } from '../../reports/record/duration-text.js';
import { formatCount } from '../../reports/text-format.js';
import { calibrationsIn, type Calibration } from '../serving/calibration.js';
import type { MetricWindow } from '../serving/metric-window.js';
import { nothing, regionTable, sectionHtml } from './elements.js';

/** @param windows since the start of the server, and since an earlier reading; null without one */
export function calibrationHtml(
  windows: { readonly sinceStart: MetricWindow; readonly lately: MetricWindow | null },
  address: string,
): string {
  const { sinceStart, lately } = windows;
  if (sinceStart.labelsOf('qianmo_predicted_outcomes_total').length === 0) return '';
  const rows = [
    ...(lately === null ? [] : rowsOf(lately, spanOf(lately))),
    ...rowsOf(sinceStart, 'since the start'),
  ];
  if (rows.length === 0)
    return sectionHtml('Calibration', nothing('No feedback has reported an impression yet.'));
  const table = regionTable({
    label: `Calibration, ${address}`,
    columns: [
      ['bundle', 'text'],
      ['segment', 'text'],
      ['counted', 'text'],
      ['impressions'],
      ['predicted'],
      ['observed'],
      ['observed / predicted'],
      ['95 % interval'],
    ],
    rows,
  });
  return sectionHtml(
    'Calibration',
    table,
    'Outcomes that feedback reported, over the sum of the probabilities of the impressions that it reported. 1 is calibrated; a ratio is low for as long as outcomes are late.',
  );
}

function spanOf({ durationMs }: MetricWindow): string {
  return durationMs === null ? 'since the start' : `last ${durationText(durationMs)}`;
}

function rowsOf(window: MetricWindow, span: string): string[][] {
  return calibrationsIn(window).map((found) => rowOf(found, span));
}

function rowOf(
  { bundle, segment, impressions, predicted, observed, ratio }: Calibration,
  span: string,
): string[] {
  return [
    bundle,
    segment,
    span,
    formatCount(impressions),
    sumText(predicted),
    sumText(observed),
    ratio === null ? '-' : ratio.value.toFixed(3),
    ratio === null ? '-' : `${ratio.low.toFixed(3)} to ${ratio.high.toFixed(3)}`,
  ];
}

function sumText(sum: number): string {
  return sum < 100 ? String(Number(sum.toPrecision(3))) : formatCount(sum);
}
