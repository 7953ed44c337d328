/**
 * When a sinusoid arm diverges, its row loses a seed but the run continues. Finished arms are kept.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { SINUSOID_ARMS } from '../../bench/sinusoid/sinusoid-arms.js';
import {
  isKept,
  keepOutcomes,
  keptOutcomes,
  type SinusoidOutcome,
} from '../../bench/sinusoid/sinusoid-outcome.js';
import { sinusoidOutcomes } from '../../bench/sinusoid/sinusoid-runs.js';
import { sinusoidTable, summaryOf } from '../../bench/sinusoid/sinusoid-table.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

const maml = SINUSOID_ARMS.find(({ name }) => name === 'MAML')!;

/** Two tasks with mean 2 and a standard error of the mean of 1. */
const learned: SinusoidOutcome = {
  arm: 'A',
  seed: 1,
  divergedAfterOuterSteps: null,
  errors: [
    [1, 3],
    [1, 3],
    [1, 3],
    [1, Infinity],
  ],
};
const diverged: SinusoidOutcome = {
  arm: 'A',
  seed: 2,
  divergedAfterOuterSteps: 1538,
  errors: [],
};

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder.remove());

test('training that diverges is an outcome', async () => {
  const arm = { ...maml, method: { kind: 'maml', innerSteps: 10, innerRate: 100 } };
  const outcomes = await sinusoidOutcomes({ arm, seed: 1, outerSteps: 2 });
  expect(outcomes).toEqual([{ arm: 'MAML', seed: 1, divergedAfterOuterSteps: 0, errors: [] }]);
});

test('a row covers the seeds that were trained, and lists those that were not', () => {
  const rows = summaryOf([learned, diverged, { ...diverged, arm: 'B' }]);
  expect(rows.map(({ seedCount, divergences }) => [seedCount, divergences])).toEqual([
    [1, [{ seed: 2, afterOuterSteps: 1538 }]],
    [0, [{ seed: 2, afterOuterSteps: 1538 }]],
  ]);
  const header = {
    ...{ commit: 'abc', date: '2026-11-25', machine: 'a machine', loadBefore: 0 },
    ...{ outerSteps: 15_000, seeds: [1, 2] },
  };
  const page = sinusoidTable(header, rows);
  const lost = 'diverges on 1 of 2 tasks, median 1.00';
  const cell = '2.00 ± 1.96 (2.00 to 2.00)';
  expect(page).toContain(`| A | 1 | ${cell} | ${cell} | ${cell} | ${lost} |`);
  expect(page).toContain('| B | 0 | none | none | none | none |');
  expect(page).toContain('- A with seed 2 diverged in training after 1,538 outer steps');
  expect(page).toContain('bench:sinusoid -- --outer-steps 15000 --seeds 1,2`');
});

test('finished arms are read back unchanged, and an arm with other settings counts as not run', () => {
  const run = { arm: maml, seed: 1, outerSteps: 5 };
  const kept = { commit: 'abc', outcomes: [learned, diverged] };
  expect(isKept(folder.path, run)).toBe(false);
  keepOutcomes(folder.path, run, kept);
  expect(keptOutcomes(folder.path, run)).toEqual(kept);
  expect(isKept(folder.path, { ...run, arm: { ...maml, innerRate: 1 } })).toBe(false);
  expect(isKept(folder.path, { ...run, seed: 2 })).toBe(false);
  expect(isKept(folder.path, { ...run, outerSteps: 6 })).toBe(false);
});
