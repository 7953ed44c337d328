/**
 * Predictors without a network: the mean rating, a shrunk bias by book or publisher, and the user's
 * level, shrunk over the support rows.
 */

import type { DbookTask } from './dbook-tasks.js';

/** Weight of the prior in a mean, as a number of ratings. */
const USER_PRIOR = 2;
const TRAINING_USER_PRIOR = 3;

type Predictor = (task: DbookTask) => readonly number[];

/** @param prior weight of the prior in the bias of a group of books, as a number of ratings. */
export function biasPredictor(
  tasks: readonly DbookTask[],
  groupOf: (book: number) => number,
  prior: number,
): Predictor {
  const training = tasks.filter(({ split, division }) => split === 'train' && division === 0);
  const mean = meanOf(training.flatMap(({ ratings }) => ratings));
  const sums = new Map<number, { sum: number; count: number }>();
  for (const { books, ratings } of training) {
    const level = shrunkMean(
      ratings.map((r) => r - mean),
      TRAINING_USER_PRIOR,
    );
    for (const [row, book] of books.entries()) {
      const group = groupOf(book);
      const { sum, count } = sums.get(group) ?? { sum: 0, count: 0 };
      sums.set(group, { sum: sum + (ratings[row] ?? 0) - mean - level, count: count + 1 });
    }
  }
  const expected = (book: number): number => {
    const found = sums.get(groupOf(book));
    return mean + (found === undefined ? 0 : found.sum / (found.count + prior));
  };
  return ({ books, ratings, supportRowCount }) => {
    const residuals = ratings
      .slice(0, supportRowCount)
      .map((rating, row) => rating - expected(books[row] ?? 0));
    const level = shrunkMean(residuals, USER_PRIOR);
    return books.slice(supportRowCount).map((book) => expected(book) + level);
  };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The mean, shrunk towards 0 with the weight of `prior` values. */
function shrunkMean(values: readonly number[], prior: number): number {
  return values.reduce((sum, value) => sum + value, 0) / (values.length + prior);
}
