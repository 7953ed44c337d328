/** The metrics in the order in which table and page show them, with unit and sense of "better". */

import type { Metrics } from '../scoring/evaluation-report.js';
import type { Table } from './table.js';
import { formatNumber } from './text-format.js';

interface NamedMetrics {
  readonly arm: string;
  readonly metrics: Metrics;
}

interface MetricColumn {
  readonly title: string;
  readonly unit: string;
  readonly digits: number;
  value(metrics: Metrics): number | null;
  /** The best value as it is shown, except the oracle's. Values that look equal are marked alike. */
  bestOf(arms: readonly NamedMetrics[]): string | null;
}

const METRIC_COLUMNS: readonly MetricColumn[] = [
  column('logloss', 'nats', 4, (m) => m.logloss),
  column('by adgroup', 'nats', 4, (m) => m.loglossPerAdgroup.value),
  column('NE', 'ratio', 3, (m) => m.normalisedEntropy),
  column(
    'AUC',
    '',
    4,
    (m) => m.auc,
    (value) => -value,
  ),
  column(
    'GAUC',
    '',
    4,
    (m) => m.gauc,
    (value) => -value,
  ),
  column(
    'pred/act',
    'clicks',
    3,
    (m) => m.calibration,
    (value) => Math.abs(Math.log(value)),
  ),
  column('ECE', '', 4, (m) => m.ece),
];

const VALUE_COLUMNS: readonly MetricColumn[] = [
  column('MSE', 'squares', 4, (m) => m.logloss),
  column('by adgroup', 'squares', 4, (m) => m.loglossPerAdgroup.value),
  column('RMSE', '', 4, (m) => m.values?.rmse ?? null),
  column('MAE', '', 4, (m) => m.values?.mae ?? null),
  column(
    'R2',
    '',
    4,
    (m) => m.values?.rSquared ?? null,
    (value) => -value,
  ),
  column(
    'pred/act',
    'sums',
    3,
    (m) => m.calibration,
    (value) => (value > 0 ? Math.abs(Math.log(value)) : Infinity),
  ),
];

/**
 * The metrics as columns, with a row for each arm and the best values marked. The metrics are those of
 * clicks or of values, whichever the arms have.
 */
export function metricTable(arms: readonly NamedMetrics[]): Table {
  const columns = columnsOf(arms);
  const bests = columns.map((each) => each.bestOf(arms));
  return {
    columns: columns.map(({ title, unit }) => ({ title, unit, marksBest: true })),
    rows: arms.map(({ arm, metrics }) =>
      columns.map((each, index) => {
        const text = formatNumber(each.value(metrics), each.digits);
        const isBest = arm !== 'oracle' && text === bests[index];
        return isBest ? { text, emphasis: 'best' } : text;
      }),
    ),
  };
}

function columnsOf(arms: readonly NamedMetrics[]): readonly MetricColumn[] {
  const values = arms[0]?.metrics.values;
  if (values === undefined) return METRIC_COLUMNS;
  const ndcg = column(
    `nDCG@${values.ndcgAt}`,
    'by adgroup',
    4,
    (m) => m.values?.ndcg ?? null,
    (value) => -value,
  );
  return [...VALUE_COLUMNS, ndcg];
}

function column(
  title: string,
  unit: string,
  digits: number,
  value: (metrics: Metrics) => number | null,
  badnessOf: (value: number) => number = (found) => found,
): MetricColumn {
  return {
    title,
    unit,
    digits,
    value,
    bestOf(arms) {
      let best: { text: string; badness: number } | null = null;
      for (const { arm, metrics } of arms) {
        const found = value(metrics);
        if (arm === 'oracle' || found === null) continue;
        const text = found.toFixed(digits);
        const badness = badnessOf(Number(text));
        if (best === null || badness < best.badness) best = { text, badness };
      }
      return best?.text ?? null;
    },
  };
}
