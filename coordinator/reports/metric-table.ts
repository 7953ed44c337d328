/** The metrics in the order in which reports show them, with unit and sense of "better". */

import type { Metrics } from '../scoring/evaluation-report.js';
import type { Cell, Table } from './document/document.js';
import { formatNumber } from './document/format.js';

interface NamedMetrics {
  readonly arm: string;
  readonly metrics: Metrics;
}

interface MetricColumn {
  readonly title: string;
  readonly unit: string;
  readonly digits: number;
  readonly value: (metrics: Metrics) => number | null;
  /** How far a value is from the best possible one; smaller is better. */
  readonly badness: (value: number) => number;
}

const SMALLER = (value: number): number => value;
const LARGER = (value: number): number => -value;
const NEARER_TO_1 = (value: number): number => (value > 0 ? Math.abs(Math.log(value)) : Infinity);

const CLICK_COLUMNS: readonly MetricColumn[] = [
  column(['logloss', 'nats'], 4, SMALLER, (m) => m.logloss),
  column(['by adgroup', 'nats'], 4, SMALLER, (m) => m.loglossPerAdgroup.value),
  column(['NE', 'ratio'], 3, SMALLER, (m) => m.normalisedEntropy),
  column(['AUC', ''], 4, LARGER, (m) => m.auc),
  column(['GAUC', ''], 4, LARGER, (m) => m.gauc),
  column(['pred/act', 'clicks'], 3, NEARER_TO_1, (m) => m.calibration),
  column(['ECE', ''], 4, SMALLER, (m) => m.ece),
];

function valueColumns(ndcgAt: number): readonly MetricColumn[] {
  return [
    column(['MSE', 'squares'], 4, SMALLER, (m) => m.logloss),
    column(['by adgroup', 'squares'], 4, SMALLER, (m) => m.loglossPerAdgroup.value),
    column(['RMSE', ''], 4, SMALLER, (m) => m.values?.rmse ?? null),
    column(['MAE', ''], 4, SMALLER, (m) => m.values?.mae ?? null),
    column(['R2', ''], 4, LARGER, (m) => m.values?.rSquared ?? null),
    column(['pred/act', 'sums'], 3, NEARER_TO_1, (m) => m.calibration),
    column([`nDCG@${ndcgAt}`, 'by adgroup'], 4, LARGER, (m) => m.values?.ndcg ?? null),
  ];
}

function column(
  [title, unit]: readonly [title: string, unit: string],
  digits: number,
  badness: MetricColumn['badness'],
  value: MetricColumn['value'],
): MetricColumn {
  return { title, unit, digits, badness, value };
}

/** A row for each arm, with the best values marked. The metrics are those of clicks or of values, as the arms have them. */
export function metricTable(arms: readonly NamedMetrics[]): Table {
  const values = arms[0]?.metrics.values;
  const columns = values === undefined ? CLICK_COLUMNS : valueColumns(values.ndcgAt);
  const bests = columns.map((each) => bestText(each, arms));
  return {
    columns: columns.map(({ title, unit }) => ({ title, unit, marksBest: true })),
    rows: arms.map(({ arm, metrics }) =>
      columns.map(({ value, digits }, index): Cell => {
        const cell = formatNumber(value(metrics), digits);
        const isBest = arm !== 'oracle' && cell === bests[index];
        return isBest ? { cell, emphasis: 'best' } : cell;
      }),
    ),
  };
}

/** The best value as it is shown, without the oracle's: values that look equal are marked alike. */
function bestText(
  { value, digits, badness }: MetricColumn,
  arms: readonly NamedMetrics[],
): string | undefined {
  const texts = arms.flatMap(({ arm, metrics }) => {
    const found = value(metrics);
    return arm === 'oracle' || found === null ? [] : [found.toFixed(digits)];
  });
  const ranks = texts.map((text) => badness(Number(text)));
  return texts[ranks.indexOf(Math.min(...ranks))];
}
