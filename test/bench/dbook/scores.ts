/** What dbook is judged by, as the figures that these are held against were. */

import { auc } from '../../../coordinator/evaluation/metrics.js';
import { NDCG_AT, ndcgOf } from '../../../coordinator/evaluation/value-metrics.js';
import type { DbookTask } from './dbook-tasks.js';

/** MAE over rows; RMSE and nDCG@5 (gain 2^rating - 1) mean over tasks; AUC of rating >= 4 over all rows. */
export interface Scores {
  readonly mae: number;
  readonly rmse: number;
  readonly ndcg: number;
  readonly auc: number;
}

const LIKED = 4;

/** @param predictions of each task's query rows. */
export function scoresOf(
  tasks: readonly DbookTask[],
  predictions: readonly (readonly number[])[],
): Scores {
  const byTask = tasks.map(({ ratings, supportRowCount }, at) => {
    const values = ratings.slice(supportRowCount);
    const errors = values.map((value, row) => (predictions[at]?.[row] ?? NaN) - value);
    return {
      mae: meanOf(errors.map(Math.abs)),
      rmse: Math.sqrt(meanOf(errors.map((error) => error ** 2))),
      ndcg: ndcgOf(predictions[at] ?? [], values, NDCG_AT) ?? NaN,
      liked: values.map((value) => (value >= LIKED ? 1 : 0)),
    };
  });
  const clicks = Float32Array.from(byTask.flatMap(({ liked }) => liked));
  const rows = { clicks, impressions: new Float32Array(clicks.length).fill(1) };
  return {
    mae: meanOf(byTask.map(({ mae }) => mae)),
    rmse: meanOf(byTask.map(({ rmse }) => rmse)),
    ndcg: meanOf(byTask.map(({ ndcg }) => ndcg)),
    auc: auc(predictions.flat(), rows) ?? NaN,
  };
}

export function meanScores(scores: readonly Scores[]): Scores {
  const mean = (name: keyof Scores): number => meanOf(scores.map((each) => each[name]));
  return { mae: mean('mae'), rmse: mean('rmse'), ndcg: mean('ndcg'), auc: mean('auc') };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
