/** The metrics in the order in which reports show them, with unit and sense of "better". */

import type { Metrics } from '../scoring/evaluation-report.js';
import type { Table } from './document/document.js';
import { formatNumber } from './document/format.js';

interface NamedMetrics {
  readonly arm: string;
  readonly metrics: Metrics;
}

interface ColumnHead {
  readonly title: string;
  readonly unit: string;
  readonly digits: number;
}

interface MetricColumn extends ColumnHead {
  value(metrics: Metrics): number | null;
  /** The best value as it is shown, except the oracle's. Values that look equal are marked alike. */
  bestOf(arms: readonly NamedMetrics[]): string | null;
}

/** How far a value is from the best possible one; smaller is better. */
type Badness = (value: number) => number;

const SMALLER_IS_BETTER: Badness = (value) => value;
const LARGER_IS_BETTER: Badness = (value) => -value;
const NEARER_TO_1_IS_BETTER: Badness = (value) =>
  value > 0 ? Math.abs(Math.log(value)) : Infinity;

const METRIC_COLUMNS: readonly MetricColumn[] = [
  column({ title: 'logloss', unit: 'nats', digits: 4 }, (m) => m.logloss),
  column({ title: 'by adgroup', unit: 'nats', digits: 4 }, (m) => m.loglossPerAdgroup.value),
  column({ title: 'NE', unit: 'ratio', digits: 3 }, (m) => m.normalisedEntropy),
  column({ title: 'AUC', unit: '', digits: 4 }, (m) => m.auc, LARGER_IS_BETTER),
  column({ title: 'GAUC', unit: '', digits: 4 }, (m) => m.gauc, LARGER_IS_BETTER),
  column(
    { title: 'pred/act', unit: 'clicks', digits: 3 },
    (m) => m.calibration,
    NEARER_TO_1_IS_BETTER,
  ),
  column({ title: 'ECE', unit: '', digits: 4 }, (m) => m.ece),
];

const VALUE_COLUMNS: readonly MetricColumn[] = [
  column({ title: 'MSE', unit: 'squares', digits: 4 }, (m) => m.logloss),
  column({ title: 'by adgroup', unit: 'squares', digits: 4 }, (m) => m.loglossPerAdgroup.value),
  column({ title: 'RMSE', unit: '', digits: 4 }, (m) => m.values?.rmse ?? null),
  column({ title: 'MAE', unit: '', digits: 4 }, (m) => m.values?.mae ?? null),
  column({ title: 'R2', unit: '', digits: 4 }, (m) => m.values?.rSquared ?? null, LARGER_IS_BETTER),
  column(
    { title: 'pred/act', unit: 'sums', digits: 3 },
    (m) => m.calibration,
    NEARER_TO_1_IS_BETTER,
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
        return isBest ? { cell: text, emphasis: 'best' } : text;
      }),
    ),
  };
}

function columnsOf(arms: readonly NamedMetrics[]): readonly MetricColumn[] {
  const values = arms[0]?.metrics.values;
  if (values === undefined) return METRIC_COLUMNS;
  const ndcg = column(
    { title: `nDCG@${values.ndcgAt}`, unit: 'by adgroup', digits: 4 },
    (m) => m.values?.ndcg ?? null,
    LARGER_IS_BETTER,
  );
  return [...VALUE_COLUMNS, ndcg];
}

function column(
  head: ColumnHead,
  value: (metrics: Metrics) => number | null,
  badnessOf: Badness = SMALLER_IS_BETTER,
): MetricColumn {
  return {
    ...head,
    value,
    bestOf(arms) {
      let best: { text: string; badness: number } | null = null;
      for (const { arm, metrics } of arms) {
        const found = value(metrics);
        if (arm === 'oracle' || found === null) continue;
        const text = found.toFixed(head.digits);
        const badness = badnessOf(Number(text));
        if (best === null || badness < best.badness) best = { text, badness };
      }
      return best?.text ?? null;
    },
  };
}
