/** The measures for dbook, computed as for the figures they are compared with. */

import { auc } from '../../../coordinator/scoring/metrics.js';
import { NDCG_AT, ndcgOf } from '../../../coordinator/scoring/value-metrics.js';
import type { DbookTask } from './dbook-tasks.js';

export const METRICS = ['mae', 'rmse', 'ndcg', 'auc'] as const;
export type Metric = (typeof METRICS)[number];

/**
 * MAE over rows; RMSE and nDCG@5 (gain 2^rating - 1) averaged over tasks; AUC of rating >= 4 over
 * all rows.
 */
export type Scores = Readonly<Record<Metric, number>>;

/** The scores of a single task. */
interface TaskErrors {
  readonly user: string;
  readonly mae: number;
  readonly rmse: number;
}

const LIKED = 4;

/** @param predictions of each task's query rows. */
export function scoresOf(
  tasks: readonly DbookTask[],
  predictions: readonly (readonly number[])[],
): Scores {
  const errors = errorsOf(tasks, predictions);
  const values = tasks.map(judgedRatings);
  const clicks = Float32Array.from(values.flat(), (value) => (value >= LIKED ? 1 : 0));
  const rows = { clicks, impressions: new Float32Array(clicks.length).fill(1) };
  return {
    mae: meanOf(errors.map(({ mae }) => mae)),
    rmse: meanOf(errors.map(({ rmse }) => rmse)),
    ndcg: meanOf(
      values.map((ratings, at) => ndcgOf(predictions[at] ?? [], ratings, NDCG_AT) ?? NaN),
    ),
    auc: auc(predictions.flat(), rows) ?? NaN,
  };
}

export function errorsOf(
  tasks: readonly DbookTask[],
  predictions: readonly (readonly number[])[],
): TaskErrors[] {
  return tasks.map((task, at) => {
    const errors = judgedRatings(task).map((value, row) => (predictions[at]?.[row] ?? NaN) - value);
    return {
      user: task.user,
      mae: meanOf(errors.map(Math.abs)),
      rmse: Math.sqrt(meanOf(errors.map((error) => error ** 2))),
    };
  });
}

export function meanScores(scores: readonly Scores[]): Scores {
  const mean = (name: Metric): number => meanOf(scores.map((each) => each[name]));
  return { mae: mean('mae'), rmse: mean('rmse'), ndcg: mean('ndcg'), auc: mean('auc') };
}

/** The mean of paired values of users, and its 95 % interval (normal). */
export interface MeanDifference {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** The mean of the first minus the second. The sampling unit is the user, so seeds of one user count as one. */
export function meanDifference(
  first: readonly TaskErrors[],
  second: readonly TaskErrors[],
  metric: 'mae' | 'rmse',
): MeanDifference {
  const byUser = new Map<string, number[]>();
  for (const [at, { user, [metric]: error }] of first.entries()) {
    const other = second[at];
    if (other?.user !== user) throw new Error(`the rows of task ${at} belong to different users`);
    byUser.set(user, [...(byUser.get(user) ?? []), error - other[metric]]);
  }
  const differences = [...byUser.values()].map(meanOf);
  const value = meanOf(differences);
  const variance =
    meanOf(differences.map((difference) => (difference - value) ** 2)) / differences.length;
  const half = 1.96 * Math.sqrt(variance);
  return { value, low: value - half, high: value + half };
}

function judgedRatings({ ratings, supportRowCount }: DbookTask): number[] {
  return ratings.slice(supportRowCount);
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
