/** Verdict, changes and record of the Meta-Embedding reproduction, with worked numbers. */

import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  coldRange,
  loglossChanges,
  modelsTable,
} from '../../bench/meta-embedding/loglosses-by-model.js';
import { resultsPage } from '../../bench/meta-embedding/results-page.js';
import {
  readRecord,
  withRun,
  writeRecord,
  type MeasuredRun,
} from '../../bench/meta-embedding/results-record.js';
import { PUBLISHED_TABLE, verdictOf, type Arms } from '../../bench/meta-embedding/results-table.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

function moved(auc: number, logloss: number, arm: keyof Arms): Arms {
  return {
    ...PUBLISHED_TABLE,
    [arm]: PUBLISHED_TABLE[arm].map((cell) => ({
      auc: cell.auc + auc,
      logloss: cell.logloss * logloss,
    })),
  };
}

test('the published table has no deviation from itself and wins every cell', () => {
  const verdict = verdictOf([PUBLISHED_TABLE]);
  expect(verdict).toMatchObject({
    aucDeviation: 0,
    loglossDeviation: 0,
    cellsLost: 0,
    cellCount: 8,
  });
  expect(verdict.aucGaps[0]).toBeCloseTo(0.0165, 6);
});

test('deviations are computed on the means, lost cells over every seed', () => {
  // AUC of Meta-Embedding 0.02 lower in one of two seeds: 0.01 in the mean, four AUC cells lost.
  const verdict = verdictOf([PUBLISHED_TABLE, moved(-0.02, 1, 'metaEmbedding')]);
  expect(verdict.aucDeviation).toBeCloseTo(0.01, 6);
  expect([verdict.cellsLost, verdict.cellCount]).toEqual([4, 16]);
  // Base logloss 20 % lower: below that of Meta-Embedding in all phases.
  const better = verdictOf([moved(0, 0.8, 'base')]);
  expect(better.loglossDeviation).toBeCloseTo(0.2, 6);
  expect(better.cellsLost).toBe(4);
});

const measured = (changes: Partial<MeasuredRun> = {}): MeasuredRun => ({
  ...{ model: 'deepfm', setting: 'published', seed: 3 },
  ...{ commit: 'abc', date: '2026-11-25', machine: 'a machine' },
  base: [...PUBLISHED_TABLE.base],
  metaEmbedding: [...PUBLISHED_TABLE.metaEmbedding],
  ...{ baseStepsPerSecond: 20, generatorStepsPerSecond: null },
  ...changes,
});

test('the page shows the published figures next to the reproduced ones', () => {
  const page = resultsPage([measured()]);
  expect(page).toContain(
    '| cold | 0.6528 | 0.6693 | 1.2323 | 1.1353 | 0.6528 / 0.6693 / 1.2323 / 1.1353 |',
  );
  expect(page).toContain('| 3, Meta-Embedding | 0.6693 / 1.1353 |');
  expect(page).toContain('0.0 % in logloss. Meta-Embedding is better than base in 8 of 8 cells');
  expect(page).toContain('DeepFM. Commit abc, 2026-11-25, a machine.');
  expect(page).not.toContain('## Base models');
});

test('a page of several models shows its changes next to the published ones', () => {
  // FM: Meta-Embedding 1.1353 / 1.2323 - 1 = -7.9 % cold; base 1.1501 / 1.2323 - 1 = -6.7 % after a.
  const page = resultsPage([
    measured(),
    measured({ model: 'fm', seed: 0, commit: 'def' }),
    measured({ model: 'fm', seed: 0, setting: 'own-default' }),
  ]);
  expect(page).toContain('| fm, one seed | 0.6528 / 0.6693 | 1.2323 | -7.9 % | -6.7 % / -13.9 % |');
  expect(page).toContain('| fm, published |  |  | -3.4 % | -6.8 % / -9.1 % |');
  expect(page).toContain('commit def, 2026-11-25, a machine (fm 0)');
});

test('changes are relative to the cold base of the same seed, then averaged over seeds', () => {
  const arms = (cold: number, later: number): Arms => ({
    base: [cold, later, later, later].map((logloss) => ({ auc: 0.5, logloss })),
    metaEmbedding: [later, later, later, later].map((logloss) => ({ auc: 0.5, logloss })),
  });
  // 1 -> 0.9 is -10 %, 2 -> 1 is -50 %. Computed on the means, 1.5 -> 0.95, it would be -37 %.
  const { base, metaEmbedding } = loglossChanges([arms(1, 0.9), arms(2, 1)]);
  expect(base[0]).toBe(0);
  expect(base[3]).toBeCloseTo(-0.3, 9);
  expect(metaEmbedding[0]).toBeCloseTo(-0.3, 9);
});

test('with several seeds, the models table shows the range before any step', () => {
  const seeds = [moved(0, 1.01, 'metaEmbedding'), moved(0, 1.1, 'metaEmbedding')];
  // 1.1353 / 1.2323 = 0.92129; times 1.01 and 1.1: -6.95 % and +1.34 %.
  const [least, greatest] = coldRange(seeds) ?? [];
  expect(least).toBeCloseTo(-0.0695, 4);
  expect(greatest).toBeCloseTo(0.0134, 4);
  expect(modelsTable(new Map([['fm', seeds]])).join('\n')).toContain('| -2.8 % (-7.0 to +1.3) |');
  expect(coldRange(seeds.slice(1))).toBeNull();
});

test('a run replaces the same run in the record, and nothing else', async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => folder.remove());
  const path = join(folder.path, 'record.json');
  expect(readRecord(path)).toEqual([]);
  const kept = [
    measured({ setting: 'own-default' }),
    measured({ seed: 4 }),
    measured({ model: 'fm' }),
  ];
  writeRecord(path, [measured({ commit: 'old' }), ...kept].reduce<MeasuredRun[]>(withRun, []));
  const runs = withRun(readRecord(path), measured({ commit: 'new' }));
  expect(runs).toEqual([kept[0], measured({ commit: 'new' }), kept[1], kept[2]]);
});
