/** The words that reports use for loss, rate and unit, for clicks and for values. */

import type { EvaluationReport } from '../scoring/evaluation-report.js';
import { formatShare } from './text-format.js';

export interface LabelWords {
  readonly loss: string;
  readonly lossTitle: string;
  readonly unit: string;
  /** The unit that a loss is averaged over. */
  readonly perRow: string;
  readonly rate: string;
  /** The metric shown beside the loss where there is room for one more. */
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
  describeRate: formatShare,
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

/** `Evaluation of NAME`, with the segment if there is one. */
export function titleOf({ run, label }: EvaluationReport): string {
  const segment = label?.segment ?? null;
  return `Evaluation of ${run.run}${segment === null ? '' : `, segment ${segment}`}`;
}
