/**
 * The measures of the dbook bench, by hand. Seen to fail: a bias predictor that looks at judged
 * ratings, differences that count seeds as users, and rivals compared on unrounded scores.
 */

import { expect, test } from 'vitest';
import { biasPredictor } from '../../bench/dbook/bias-predictors.js';
import type { DbookTask } from '../../bench/dbook/dbook-tasks.js';
import { tableOf, type ArmScores, type ByScenario } from '../../bench/dbook/results-table.js';
import { meanDifference, scoresOf, type Scores } from '../../bench/dbook/scores.js';

function task(changes: Partial<DbookTask>): DbookTask {
  return {
    ...{ part: 'warm-up', split: 'test', user: 'a', division: 0 },
    ...{ books: [1, 2], ratings: [3, 5], supportRowCount: 0 },
    ...changes,
  };
}

test('computes errors by user, nDCG at 5 with gains of 2^rating - 1, and AUC of ratings from 4 over all rows', () => {
  const tasks = [task({}), task({ user: 'b', ratings: [4, 2] })];
  const { mae, rmse, ndcg, auc } = scoresOf(tasks, [
    [4, 4.5],
    [3, 4],
  ]);
  expect(mae).toBeCloseTo((0.75 + 1.5) / 2, 12);
  expect(rmse).toBeCloseTo((Math.sqrt(1.25 / 2) + Math.sqrt(2.5)) / 2, 12);
  const second = 1 / Math.log2(3);
  expect(ndcg).toBeCloseTo((1 + (3 + 15 * second) / (15 + 3 * second)) / 2, 12);
  // 4.5 is above both rows that are not liked, 3 above neither.
  expect(auc).toBeCloseTo(1 / 2, 12);
});

test('a bias predictor adds the shrunk bias of the group and the shrunk level of the support rows', () => {
  const training = { part: 'training', split: 'train' } as const;
  const tasks = [
    task({ ...training, books: [1, 2], ratings: [5, 3] }),
    task({ ...training, books: [1, 2], ratings: [5, 3], division: 1 }),
  ];
  // Mean 4, the user's level 0; biases 1 / (1 + 4) and -1 / (1 + 4).
  const predict = biasPredictor(tasks, (book) => book, 4);
  const judged = task({ books: [1, 2, 1, 9], ratings: [5, 5, 1, 1], supportRowCount: 2 });
  const level = (5 - 4.2 + 5 - 3.8) / (2 + 2);
  const [known = NaN, unknown = NaN] = predict(judged);
  expect(known).toBeCloseTo(4.2 + level, 12);
  expect(unknown).toBeCloseTo(4 + level, 12);
});

test('the interval of a difference is over users, whose seeds are averaged first', () => {
  const errors = (values: readonly number[]): { user: string; mae: number; rmse: number }[] =>
    values.map((mae, at) => ({ user: at % 2 === 0 ? 'a' : 'b', mae, rmse: 0 }));
  const { value, low, high } = meanDifference(errors([1, 4, 3, 4]), errors([0, 0, 0, 0]), 'mae');
  expect(value).toBe(3);
  // Users' means 2 and 4: variance 1, of their mean 1 / 2.
  expect(high - value).toBeCloseTo(1.96 * Math.sqrt(1 / 2), 12);
  expect(value - low).toBeCloseTo(1.96 * Math.sqrt(1 / 2), 12);
});

test('an arm is compared with a rival on the same rows, and with published figures to three decimals', () => {
  const everywhere = (scores: Scores): ByScenario<Scores> => ({
    ...{ 'warm-up': scores, 'cold users': scores },
    ...{ 'cold items': scores, 'both cold': scores },
  });
  const rival = 'shrunk support mean and book bias';
  const arm = (name: string, mae: number): ArmScores => ({
    ...{ name, chosen: null },
    scores: everywhere({ mae, rmse: 0.7, ndcg: 0.9, auc: 0.7 }),
  });
  const page = tableOf(
    { commit: 'abc', date: '2026-01-01', machine: 'one', loadBefore: 0 },
    {
      ...{ seeds: [1], differences: [], claims: [['own', rival]] },
      arms: [arm('own', 0.6004), arm(rival, 0.5996)],
    },
  );
  expect(page).toContain(`own is no worse than "${rival}" on the same rows in 16 of 16 cells.`);
  expect(page).toContain(
    `own is no worse than "${rival}" as measured elsewhere in 14 of 16 cells; worse: MAE of cold users, AUC of cold users.`,
  );
});
