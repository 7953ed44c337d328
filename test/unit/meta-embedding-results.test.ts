/** The verdict of the Meta-Embedding reproduction on worked numbers. */

import { expect, test } from 'vitest';
import {
  PUBLISHED_TABLE,
  resultsPage,
  verdictOf,
  type Arms,
} from '../bench/meta-embedding/results-table.js';

function moved(auc: number, logloss: number, arm: keyof Arms): Arms {
  return {
    ...PUBLISHED_TABLE,
    [arm]: PUBLISHED_TABLE[arm].map((cell) => ({
      auc: cell.auc + auc,
      logloss: cell.logloss * logloss,
    })),
  };
}

test('the published table is at no distance from itself and wins every cell', () => {
  const verdict = verdictOf([PUBLISHED_TABLE]);
  expect(verdict).toMatchObject({
    aucDeviation: 0,
    loglossDeviation: 0,
    cellsLost: 0,
    cellCount: 8,
  });
  expect(verdict.aucGaps[0]).toBeCloseTo(0.0165, 6);
});

test('deviations are of the means, lost cells of every seed', () => {
  // AUC of Meta-Embedding 0.02 lower in one of two seeds: 0.01 in the mean, four AUC cells lost.
  const verdict = verdictOf([PUBLISHED_TABLE, moved(-0.02, 1, 'metaEmbedding')]);
  expect(verdict.aucDeviation).toBeCloseTo(0.01, 6);
  expect([verdict.cellsLost, verdict.cellCount]).toEqual([4, 16]);
  // Base logloss 20 % lower: below that of Meta-Embedding in all phases.
  const better = verdictOf([moved(0, 0.8, 'base')]);
  expect(better.loglossDeviation).toBeCloseTo(0.2, 6);
  expect(better.cellsLost).toBe(4);
});

test('the page holds the published figures beside those found', () => {
  const header = { commit: 'abc', date: '2026-11-25', machine: 'a machine', loadBefore: 0 };
  const page = resultsPage(header, [
    { setting: 'published', seeds: [{ seed: 3, ...PUBLISHED_TABLE }] },
  ]);
  expect(page).toContain(
    '| cold | 0.6528 | 0.6693 | 1.2323 | 1.1353 | 0.6528 / 0.6693 / 1.2323 / 1.1353 |',
  );
  expect(page).toContain('| 3, Meta-Embedding | 0.6693 / 1.1353 |');
  expect(page).toContain('logloss 0.0 %. Meta-Embedding is better than base in 8 of 8 cells');
});
