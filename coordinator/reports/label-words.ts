/** What reports call loss, rate and unit: of clicks, or of values. Used by table and page. */

import type { EvaluationReport } from '../scoring/evaluation-report.js';

export interface LabelWords {
  readonly loss: string;
  readonly lossTitle: string;
  readonly unit: string;
  /** What a loss is a mean over. */
  readonly perRow: string;
  readonly rate: string;
  /** The metric that stands beside the loss where there is room for one. */
  readonly second: string;
  describeRate(rate: number): string;
}

const OF_CLICKS: LabelWords = {
  loss: 'logloss',
  lossTitle: 'Logloss',
  unit: 'nats',
  perRow: 'per impression',
  rate: 'click rate',
  second: 'AUC',
  describeRate: (rate) => `${Number((rate * 100).toPrecision(3))} %`,
};

const OF_VALUES: LabelWords = {
  loss: 'squared error',
  lossTitle: 'Squared error',
  unit: 'squares',
  perRow: 'per row',
  rate: 'mean value',
  second: 'MAE',
  describeRate: (rate) => String(Number(rate.toPrecision(4))),
};

export function wordsOf({ label }: Pick<EvaluationReport, 'label'>): LabelWords {
  return label?.loss === 'squared' ? OF_VALUES : OF_CLICKS;
}

/** `Evaluation of NAME`, and of which segment. */
export function titleOf({ run, label }: EvaluationReport): string {
  const segment = label?.segment ?? null;
  return `Evaluation of ${run.run}${segment === null ? '' : `, segment ${segment}`}`;
}
